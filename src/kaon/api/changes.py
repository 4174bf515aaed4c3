"""One watch over the store, shared by everybody in this process who waits for something.

A waiter subscribes first and reads second, so that nothing falls between the two. When the store cannot
be watched for a while, all waiters are woken to look for themselves: a watch is a hint, never the truth.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kaon.store.port import Change, Store

_RETRY_S = 0.5
Place = tuple[str, str, str]
"""Kind, workspace, name."""


class Changed:
    """Set once something at its place has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake the waiter."""
        self._event.set()

    async def within(self, timeout_s: float) -> bool:
        """Wait; whether there was a change. Ready for the next one afterwards."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Changes:
    """Tells waiters when the resource that they wait for changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: defaultdict[Place, set[Changed]] = defaultdict(set)
        self.seen = -1
        """Version up to which all changes are known here; -1: none yet."""
        self._began = -1
        self._newest: dict[str, int] = {}

    def newest(self, kind: str) -> int:
        """The version at which a kind last changed, as far as is known here."""
        return self._newest.get(kind, self._began)

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            try:
                if self.seen < 0:
                    self.seen = self._began = await self._store.version()
                async for group in self._store.watch(self.seen):
                    self._tell(group)
            except Exception:
                self._wake_all()
            await asyncio.sleep(_RETRY_S)

    @contextmanager
    def of(self, kind: str, workspace: str, name: str) -> Iterator[Changed]:
        """While inside, hear of changes of one resource."""
        place, changed = (kind, workspace, name), Changed()
        self._waiting[place].add(changed)
        try:
            yield changed
        finally:
            self._waiting[place].discard(changed)
            if not self._waiting[place]:
                del self._waiting[place]

    def _tell(self, group: Sequence[Change]) -> None:
        for change in group:
            self._newest[change.kind] = self.seen = change.version
            for waiter in self._waiting.get((change.kind, change.workspace, change.name), ()):
                waiter.tell()

    def _wake_all(self) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.tell()
