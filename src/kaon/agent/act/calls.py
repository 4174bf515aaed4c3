"""Calls of the control plane: logs of replicas, and the report of a shadow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.agent.observe.shadows import Shadows
from kaon.drivers.port import Driver, LogLine
from kaon.types.model import Model, Name

_WAITING_LINES = 1000
_QUIET_S = 3.0


class LogsCall(Model):
    """A request for lines of logs."""

    replicas: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")], ...] = Field(description="Ids.")
    tail: int = Field(default=100, ge=0, le=100_000, description="Lines at most from before now, of each replica.")
    follow: bool = Field(default=False, description="Go on with new lines as they come.")
    since_s: float | None = Field(default=None, ge=0, description="None older than that; of unknown age is kept.")
    grep: str | None = Field(default=None, description="Only lines that contain this text.")


class ShadowCall(Model):
    """A request for the report of a shadow."""

    workspace: Name
    deployment: Name


async def compared(call: ShadowCall, shadows: Shadows) -> AsyncIterator[bytes]:
    """One line: the `ShadowReport` of that deployment."""
    yield shadows.report(call.workspace, call.deployment).model_dump_json().encode() + b"\n"


async def logs(call: LogsCall, driver: Driver, now: float) -> AsyncIterator[bytes]:
    """The lines requested, as NDJSON of `LogLine`. `now` is in epoch seconds.

    An empty line is sent every few seconds while there is no other: only a writer notices that the reader has left.
    """
    async for line in _merged(driver, call) if call.follow else _in_turn(driver, call):
        if line is None:
            yield b"\n"
            continue
        too_old = call.since_s is not None and line.at is not None and line.at < now - call.since_s
        if not too_old and (call.grep is None or call.grep in line.text):
            yield line.model_dump_json().encode() + b"\n"


async def _in_turn(driver: Driver, call: LogsCall) -> AsyncIterator[LogLine]:
    for replica in call.replicas:
        async for line in driver.logs(replica, tail=call.tail, follow=False):
            yield line


async def _merged(driver: Driver, call: LogsCall) -> AsyncIterator[LogLine | None]:
    """Lines of all replicas as they come, None while none comes. A slow reader does not slow the replicas."""
    waiting: asyncio.Queue[LogLine] = asyncio.Queue(_WAITING_LINES)

    async def read(replica: str) -> None:
        async for line in driver.logs(replica, tail=call.tail, follow=True):
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
