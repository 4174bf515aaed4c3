"""Open-loop load: requests leave by the clock, whether or not the ones before were answered.

The latency of a request counts from the moment at which it was due, so that a server that stalls cannot hide it by
slowing its clients down ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Outcome:
    """One run's latencies, sorted, and how many requests failed."""

    latency_s: Sequence[float]
    failed: int

    def percentile_ms(self, percent: float) -> float:
        """The latency that so many percent of the requests did not exceed."""
        return self.latency_s[min(int(len(self.latency_s) * percent / 100), len(self.latency_s) - 1)] * 1000


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self, head: bytes) -> int:
        """Send a request and return the answer's status, its body read."""
        self.writer.write(head)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        await self.reader.readexactly(length)
        return int(lines[0].split()[1])


async def open_loop(url: str, key: str, users: Sequence[int], *, rps: float, seconds: float) -> Outcome:
    """`rps` calls a second of GET `url`?user_id=..., at times drawn as independent users would come (Poisson)."""
    place = urlsplit(url)
    idle: list[Connection] = []
    latencies: list[float] = []
    failed = 0

    async def one(due: float, user: int) -> None:
        nonlocal failed
        head = (
            f"GET {place.path}?user_id={user}&k=10 HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Authorization: Bearer {key}\r\n\r\n"
        ).encode()
        try:
            connection = idle.pop() if idle else Connection(*await asyncio.open_connection(place.hostname, place.port))
            status = await asyncio.wait_for(connection.get(head), 10)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        else:
            idle.append(connection)
        latencies.append(time.perf_counter() - due)
        failed += status != 200

    rng = random.Random(7)
    due = time.perf_counter() + 0.1
    end = due + seconds
    async with asyncio.TaskGroup() as group:
        while due < end:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            group.create_task(one(due, rng.choice(users)))
            due += rng.expovariate(rps)
    for connection in idle:
        connection.writer.close()
    return Outcome(sorted(latencies), failed)
