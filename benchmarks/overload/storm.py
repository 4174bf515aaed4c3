"""Callers who do not take no for an answer: calls that come when they come, and come again at once when refused.

As little as can be for each call, so that the machine's time is the platform's: keep-alive connections, requests made
once as bytes, answers read as far as their status, `retry-after` and length.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TRIES = 4


@dataclass(frozen=True)
class Callers:
    """Some of those who call: what, by which key, how often, and how long they wait."""

    name: str
    url: str
    key: str
    body: object
    rps: float = 0.0
    patience_s: float = 2.0
    say_so: bool = True
    """Whether they send their patience along; else they hang up without a word."""

    def request(self) -> bytes:
        """The bytes of a call."""
        parts, body = urlsplit(self.url), json.dumps(self.body).encode()
        head = [
            f"POST {parts.path} HTTP/1.1",
            f"host: {parts.netloc}",
            f"authorization: Bearer {self.key}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        if self.say_so:
            head.append(f"x-request-timeout: {self.patience_s}")
        return ("\r\n".join(head) + "\r\n\r\n").encode() + body


@dataclass
class Tally:
    """What became of the calls of some callers. Times are in seconds."""

    calls: int = 0
    tries: int = 0
    good: list[float] = field(default_factory=list)
    """How long each call took that was answered in time, its refused tries included."""
    refused_after: list[float] = field(default_factory=list)
    """How long each refusal took."""
    without_retry_after: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    hung_up: int = 0
    broken: int = 0

    @property
    def good_share(self) -> float:
        """Of the calls, those that were answered in time."""
        return len(self.good) / max(1, self.calls)

    def add(self, other: Tally) -> None:
        """Count the other's calls too."""
        self.calls += other.calls
        self.tries += other.tries
        self.good += other.good
        self.refused_after += other.refused_after
        self.without_retry_after += other.without_retry_after
        self.statuses += other.statuses
        self.hung_up += other.hung_up
        self.broken += other.broken


class Line:
    """Keep-alive connections to one address."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """The answer's status, and whether it has a Retry-After. Closes the connection when cancelled."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.transport.abort()
            raise
        self._idle.append((reader, writer))
        return int(head[9:12]), b"\r\nretry-after: " in head

    def close(self) -> None:
        """Hang up everywhere."""
        for _, writer in self._idle:
            writer.close()


async def call(line: Line, callers: Callers, request: bytes, tally: Tally, tries: int = TRIES) -> None:
    """One call: repeated at once while it is refused, until its caller gives up."""
    began_at = time.monotonic()
    tally.calls += 1
    for _ in range(tries):
        tried_at = time.monotonic()
        tally.tries += 1
        try:
            async with asyncio.timeout(began_at + callers.patience_s - tried_at):
                status, retry_after = await line.ask(request)
        except TimeoutError:
            tally.hung_up += 1
            return
        except (OSError, asyncio.IncompleteReadError):
            tally.broken += 1
            return
        now = time.monotonic()
        tally.statuses[status] += 1
        if status == 200:
            tally.good.append(now - began_at)
        if status not in (429, 503):
            return
        tally.refused_after.append(now - tried_at)
        tally.without_retry_after += not retry_after


async def peak(callers: Callers, clients: int, seconds: float) -> float:
    """Calls a second that `clients` callers who wait for each answer get out of it."""
    line, request, tally = Line(callers.url), callers.request(), Tally()
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            await call(line, callers, request, tally)

    began_at = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    line.close()
    return len(tally.good) / (time.monotonic() - began_at)


async def storm(groups: Sequence[Callers], seconds: float, tries: int = TRIES) -> dict[str, Tally]:
    """All of them at once, each group at its own rate whatever becomes of its calls."""
    tallies = {callers.name: Tally() for callers in groups}
    line = Line(groups[0].url)
    async with asyncio.TaskGroup() as group:
        for callers in groups:
            group.create_task(_arrivals(line, callers, tallies[callers.name], seconds, tries))
    line.close()
    return tallies


async def _arrivals(line: Line, callers: Callers, tally: Tally, seconds: float, tries: int) -> None:
    request, began_at, number = callers.request(), time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while number < callers.rps * seconds:
            due_s = began_at + number / callers.rps - time.monotonic()
            if due_s > 0:
                await asyncio.sleep(due_s)
            group.create_task(call(line, callers, request, tally, tries))
            number += 1


async def back_to_normal(callers: Callers, within_s: float) -> float:
    """Seconds until ten calls in a row are answered within half a second each; infinite when that takes too long."""
    line, request, began_at, row = Line(callers.url), callers.request(), time.monotonic(), 0
    while time.monotonic() - began_at < within_s:
        tally = Tally()
        with contextlib.suppress(OSError):
            await call(line, callers, request, tally, tries=1)
        row = row + 1 if tally.good and tally.good[0] <= 0.5 else 0
        if row == 10:
            line.close()
            return time.monotonic() - began_at
    return float("inf")
