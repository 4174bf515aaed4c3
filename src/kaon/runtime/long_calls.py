"""Streams, websockets and requests to mounted apps, which end when their key becomes invalid.

A plain call ends soon; these may last for days. When the list of keys changes, and four times a second while a key with
an expiry has one open, each of them is checked against the list again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kaon.errors import KaonError
from kaon.runtime.access_list import AccessList
from kaon.types.key import Grant

CHECK_S = 0.25

EndCallback = Callable[[KaonError], object]


class LongCalls:
    """The long calls of one replica."""

    def __init__(self, access: AccessList, loop: asyncio.AbstractEventLoop) -> None:
        self._access = access
        self._loop = loop
        self._held: dict[int, tuple[Grant, EndCallback]] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        access.on_change = self.check

    @contextmanager
    def held(self, grant: Grant, end: EndCallback) -> Iterator[None]:
        """Within the block, `end` is called once, with the reason, when the grant becomes invalid."""
        number = next(self._numbers)
        self._held[number] = grant, end
        self._watch()
        try:
            yield
        finally:
            self._held.pop(number, None)

    def check(self) -> None:
        """End the calls whose grants are invalid."""
        for number, (grant, end) in list(self._held.items()):
            error = self._access.error_of(grant)
            if error is not None:
                self._held.pop(number, None)
                end(error)

    def close(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        if self._timer is None and any(grant.expires_at is not None for grant, _ in self._held.values()):
            self._timer = self._loop.call_later(CHECK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.check()
        self._watch()
