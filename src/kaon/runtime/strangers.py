"""Addresses that send wrong keys: after some, they are told to wait. Callers with right keys are never counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from kaon.errors import TooManyRequests

WRONG_KEYS = 30
"""Wrong keys of one address in a window, before it has to wait for the window's end."""
WINDOW_S = 60.0
_ADDRESSES = 4096


class Strangers:
    """Wrong keys by address, of the last minute; the addresses are bounded, the oldest is forgotten first."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}
        """Address -> when its window began, and wrong keys since then."""

    def wrong(self, address: str) -> None:
        """Count a wrong key. Raises TooManyRequests when there were too many."""
        now = self._now()
        began_at, count = self._seen.get(address, (now, 0))
        if now - began_at >= WINDOW_S:
            began_at, count = now, 0
        if address not in self._seen and len(self._seen) >= _ADDRESSES:
            del self._seen[next(iter(self._seen))]
        self._seen[address] = began_at, count + 1
        if count >= WRONG_KEYS:
            raise TooManyRequests(
                "Too many wrong keys came from this address.",
                hint="Wait, and check the key.",
                retry_after_s=began_at + WINDOW_S - now,
            )
