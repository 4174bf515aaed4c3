"""Calls that last, such as followed logs: so many for each key at once, so that none takes the places of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kaon.errors import TooManyRequests

MOST = 16
"""Of one key at once. An agent needs three."""


class StreamLimits:
    """Open calls that last, by the uid of their key."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def open(self, uid: str) -> Iterator[None]:
        """While inside, one more is open. Raises `TooManyRequests` beyond `MOST`."""
        if self._open[uid] >= MOST:
            raise TooManyRequests(
                f"This key has {MOST} calls open that last, such as followed logs.",
                hint="End some, or use another key.",
                retry_after_s=5,
            )
        self._open[uid] += 1
        try:
            yield
        finally:
            self._open[uid] -= 1
            if not self._open[uid]:
                del self._open[uid]
