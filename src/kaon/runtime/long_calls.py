"""What lasts after its caller was let in: streams, websockets, requests to mounted apps. They end with their key.

A plain call ends by itself soon; these may go on for days. When the list of keys changes, and four times a second
while a key that expires has something open, each of them is held against the list anew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kaon.errors import KaonError
from kaon.runtime.access_list import AccessList
from kaon.types.key import Grant

LOOK_S = 0.25

EndCallback = Callable[[KaonError], object]


class LongCalls:
    """All of one replica."""

    def __init__(self, gate: AccessList, loop: asyncio.AbstractEventLoop) -> None:
        self._gate = gate
        self._loop = loop
        self._held: dict[int, tuple[Grant, EndCallback]] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        gate.on_change = self.look

    @contextmanager
    def held(self, grant: Grant, end: EndCallback) -> Iterator[None]:
        """While it is held, `end` is called when the grant is good no longer, once and with the reason."""
        number = next(self._numbers)
        self._held[number] = grant, end
        self._watch()
        try:
            yield
        finally:
            self._held.pop(number, None)

    def look(self) -> None:
        """End what is held by grants that are good no longer."""
        for number, (grant, end) in list(self._held.items()):
            error = self._gate.objection(grant)
            if error is not None:
                self._held.pop(number, None)
                end(error)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        if self._timer is None and any(grant.expires_at is not None for grant, _ in self._held.values()):
            self._timer = self._loop.call_later(LOOK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look()
        self._watch()
