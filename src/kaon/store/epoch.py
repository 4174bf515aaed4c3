"""The store as a controller has it: every write names the epoch under which the controller was started.

A server that starts advances the store's epoch. What an older server's controllers decided by then, on whatever they
had read, is refused from that moment on, so that two control planes never take turns in writing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from kaon.laws.retention import Keep
from kaon.store.port import AnyResource, AuditQuery, Change, Store
from kaon.store.single import SingleWrites
from kaon.store.writes import Write
from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.resource import Unreadable
from kaon.types.traffic import Sample


class EpochStore(SingleWrites):
    """`Store` whose writes are made under one epoch. Any of them raises `StaleEpoch` once there is a newer one."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._store = store
        self._epoch = epoch

    async def open(self) -> None:
        """See `Store.open`."""
        await self._store.open()

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    async def get(self, kind: str, workspace: str, name: str) -> AnyResource:
        """See `Store.get`."""
        return await self._store.get(kind, workspace, name)

    async def find(self, kind: str, workspace: str, name: str) -> AnyResource | None:
        """See `Store.find`."""
        return await self._store.find(kind, workspace, name)

    async def list_all(
        self, kind: str, workspace: str | None = None, *, unreadable: list[Unreadable] | None = None
    ) -> list[AnyResource]:
        """See `Store.list_all`."""
        return await self._store.list_all(kind, workspace, unreadable=unreadable)

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """See `Store.write`. The epoch is this store's own."""
        return await self._store.write(writes, epoch=self._epoch)

    @property
    def written(self) -> int:
        """See `Store.written`."""
        return self._store.written

    async def version(self) -> int:
        """See `Store.version`."""
        return await self._store.version()

    async def epoch(self) -> int:
        """See `Store.epoch`: the newest, which may be later than this store's own."""
        return await self._store.epoch()

    async def advance_epoch(self) -> int:
        """See `Store.advance_epoch`; this store's own stays."""
        return await self._store.advance_epoch()

    async def changes(self, after: int) -> Sequence[Change]:
        """See `Store.changes`."""
        return await self._store.changes(after)

    def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """See `Store.watch`."""
        return self._store.watch(after)

    async def events(
        self,
        workspace: str,
        kind: str | None = None,
        name: str | None = None,
        limit: int = 100,
        *,
        after: int | None = None,
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._store.events(workspace, kind, name, limit, after=after)

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """See `Store.traffic`."""
        return await self._store.traffic(workspace, deployment, since_s)

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """See `Store.journal`."""
        return await self._store.journal(workspace, deployment, concern, limit)

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """See `Store.outdated`."""
        return await self._store.outdated(keep)

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        """See `Store.sweep`. The epoch is this store's own."""
        return await self._store.sweep(keep, epoch=self._epoch)

    async def audit(self, query: AuditQuery) -> list[AuditRecord]:
        """See `Store.audit`."""
        return await self._store.audit(query)
