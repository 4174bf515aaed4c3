"""Limits long-lived requests, such as followed logs, for each key, so that no key blocks the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kaon.errors import TooManyRequests

MOST = 16
"""Open requests of one key. An agent needs three."""


class StreamLimits:
    """The open long-lived requests, by the uid of their key."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def open(self, uid: str) -> Iterator[None]:
        """Count one more while inside. Raises `TooManyRequests` beyond `MOST`."""
        if self._open[uid] >= MOST:
            raise TooManyRequests(
                f"This key has {MOST} long-lived requests open, such as followed logs.",
                hint="Stop some of them, or use another key.",
                retry_after_s=5,
            )
        self._open[uid] += 1
        try:
            yield
        finally:
            self._open[uid] -= 1
            if not self._open[uid]:
                del self._open[uid]
