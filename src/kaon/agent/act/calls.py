"""Calls of the control plane: logs of replicas, and the report of a shadow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.agent.observe.shadows import Shadows
from kaon.drivers.port import Driver, LogLine
from kaon.types.log_level import LogLevel
from kaon.types.model import Model, Name

_ALL_LINES = 1_000_000
_WAITING_LINES = 1000
_QUIET_S = 3.0


class LogsCall(Model):
    """A request for lines of logs."""

    replicas: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")], ...] = Field(description="Ids.")
    tail: int = Field(default=100, ge=0, le=100_000, description="Lines at most from before now, of each replica.")
    follow: bool = Field(default=False, description="Go on with new lines as they come.")
    since_s: float | None = Field(default=None, ge=0, description="None older than that; of unknown age is kept.")
    grep: str | None = Field(default=None, description="Only lines that contain this text.")
    level: LogLevel | None = Field(default=None, description="Only lines of this level or a higher one.")

    @property
    def lines_read(self) -> int:
        """Lines to read of each replica: all that are kept when only some of them count for `tail`."""
        filtered = self.since_s is not None or self.grep is not None or self.level is not None
        return _ALL_LINES if filtered and self.tail else self.tail

    def selects(self, line: LogLine, now: float) -> bool:
        """Whether a line passes the filters."""
        oldest = None if self.since_s is None else now - self.since_s
        return line.matches(oldest=oldest, grep=self.grep, level=self.level)


class ShadowCall(Model):
    """A request for the report of a shadow."""

    workspace: Name
    deployment: Name


async def compared(call: ShadowCall, shadows: Shadows) -> AsyncIterator[bytes]:
    """One line: the `ShadowReport` of the deployment."""
    yield shadows.report(call.workspace, call.deployment).model_dump_json().encode() + b"\n"


async def logs(call: LogsCall, driver: Driver, now: float) -> AsyncIterator[bytes]:
    """The lines requested, as NDJSON of `LogLine`. `now` is in epoch seconds.

    An empty line is sent every few seconds without another one: only by writing is it noticed that the reader has left.
    """
    async for line in _merged(driver, call) if call.follow else _in_turn(driver, call, now):
        if line is None:
            yield b"\n"
        elif call.selects(line, now):
            yield line.model_dump_json().encode() + b"\n"


async def _in_turn(driver: Driver, call: LogsCall, now: float) -> AsyncIterator[LogLine]:
    """The last `tail` lines of each replica that pass the filters."""
    for replica in call.replicas:
        selected: deque[LogLine] = deque(maxlen=call.tail)
        async for line in driver.logs(replica, tail=call.lines_read, follow=False):
            if call.selects(line, now):
                selected.append(line)
        for line in selected:
            yield line


async def _merged(driver: Driver, call: LogsCall) -> AsyncIterator[LogLine | None]:
    """Lines of all replicas as they come, None while none comes. A slow reader does not slow the replicas."""
    waiting: asyncio.Queue[LogLine] = asyncio.Queue(_WAITING_LINES)

    async def read(replica: str) -> None:
        async for line in driver.logs(replica, tail=call.lines_read, follow=True):
            await waiting.put(line)

    reading = [asyncio.create_task(read(replica)) for replica in call.replicas]
    try:
        while reading:
            try:
                async with asyncio.timeout(_QUIET_S):
                    line = await waiting.get()
            except TimeoutError:
                yield None
            else:
                yield line
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
