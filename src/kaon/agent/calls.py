"""What the control plane asks of an agent: so far, the logs of a deployment's replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from pydantic import Field

from kaon.drivers.port import Driver, LogLine
from kaon.types.model import Model
from kaon.types.replica import ReplicaStatus

_WAITING_LINES = 1000


class LogsCall(Model):
    """Which lines are asked for."""

    workspace: str
    deployment: str
    tail: int = Field(default=100, ge=0, le=100_000, description="Lines at most from before now, of each replica.")
    follow: bool = Field(default=False, description="Go on with new lines as they come.")
    since_s: float | None = Field(default=None, ge=0, description="None older than that; of unknown age is kept.")
    replica: str | None = Field(default=None, description="Only of the replica of that id or name.")
    grep: str | None = Field(default=None, description="Only lines that contain this text.")


async def logs(call: LogsCall, driver: Driver, replicas: Iterable[ReplicaStatus], now: float) -> AsyncIterator[bytes]:
    """The lines asked for, as NDJSON. `now` is in epoch seconds."""
    chosen = [
        replica
        for replica in replicas
        if (replica.workspace, replica.deployment) == (call.workspace, call.deployment)
        and call.replica in (None, replica.id, replica.name)
    ]
    names = {replica.id: replica.name for replica in chosen}
    lines = _merged(driver, list(names), call) if call.follow else _in_turn(driver, list(names), call)
    async for line in lines:
        if call.since_s is not None and line.at is not None and line.at < now - call.since_s:
            continue
        if call.grep is None or call.grep in line.text:
            yield line.model_copy(update={"replica": names[line.replica]}).model_dump_json().encode() + b"\n"


async def _in_turn(driver: Driver, replicas: list[str], call: LogsCall) -> AsyncIterator[LogLine]:
    for replica in replicas:
        async for line in driver.logs(replica, tail=call.tail, follow=False):
            yield line


async def _merged(driver: Driver, replicas: list[str], call: LogsCall) -> AsyncIterator[LogLine]:
    """Lines of all replicas as they come. A reader that is slow slows down the reading, not the replicas."""
    waiting: asyncio.Queue[LogLine] = asyncio.Queue(_WAITING_LINES)

    async def read(replica: str) -> None:
        async for line in driver.logs(replica, tail=call.tail, follow=True):
            await waiting.put(line)

    reading = [asyncio.create_task(read(replica)) for replica in replicas]
    try:
        while reading:
            yield await waiting.get()
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
