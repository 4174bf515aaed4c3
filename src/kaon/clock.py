"""The one place where time comes from.

Laws never see a clock: they take `now` as a value. Shells take a `Clock`, so that the simulator and
the tests move time by hand.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, elapsed time, and waiting."""

    def now(self) -> float:
        """Seconds since the epoch. It may jump; use it for stamps and expiry only."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; use it for durations."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class FakeClock:
    """A clock that stands still until `advance` is called."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._wall_offset = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._wall_offset + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + delay_s, next(self._order), woken))
        await woken

    def jump(self, delta_s: float) -> None:
        """Move wall time only, as an operator or NTP does."""
        self._wall_offset += delta_s

    async def advance(self, delta_s: float) -> None:
        """Let `delta_s` seconds pass, waking sleepers in order of their time."""
        end = self._elapsed + delta_s
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = when
            if not woken.done():
                woken.set_result(None)
            for _ in range(5):  # let the woken run and fall asleep again
                await asyncio.sleep(0)
        self._elapsed = end
        await asyncio.sleep(0)
