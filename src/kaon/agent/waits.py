"""How the agent's loops wait: after failures, after answers without news, and for events."""

from __future__ import annotations

import asyncio
import random

from kaon import log
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.laws.backoff import Backoff, delay_s

_AWAY = Backoff(first_s=0.2, cap_s=5.0)

_log = log.get("agent")


class Waits:
    """Waits by a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def after_failure(self, failures: int, what: str, error: KaonError) -> int:
        """Wait after one more failure in a row; returns how many there are now. The first one is logged as `what`."""
        if failures == 0:
            _log.warning(what, error=error.cause)
        await self._clock.sleep(delay_s(_AWAY, failures + 1, random.random()))  # noqa: S311
        return failures + 1

    async def after_answer(self, idle: int, sent_at: float, *, new: bool) -> int:
        """Wait after an answer without news that came at once, so that requests are never sent in a hot loop; returns
        how many of these came in a row."""
        if new or self._clock.monotonic() - sent_at >= _AWAY.cap_s:
            return 0
        await self._clock.sleep(delay_s(_AWAY, idle + 1, random.random()))  # noqa: S311
        return idle + 1

    async def for_event(self, event: asyncio.Event, within_s: float) -> None:
        """Return when `event` is set, at the latest after `within_s`."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(within_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
