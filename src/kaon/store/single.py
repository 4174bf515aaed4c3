"""The single operations of a store, each a `write` of one change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import BaseModel

from kaon.store.port import AnyResource
from kaon.store.writes import (
    Create,
    Delete,
    KeepJournal,
    KeepTraffic,
    RecordEvents,
    UpdateSpec,
    UpdateStatus,
    Write,
)
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.resource import Unreadable
from kaon.types.traffic import Sample


class SingleWrites(ABC):
    """Operations that a store derives from `write`."""

    @abstractmethod
    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """See `Store.write`."""

    async def create(
        self, kind: str, workspace: str, name: str, spec: BaseModel, status: BaseModel | None = None
    ) -> AnyResource:
        """See `Store.create`."""
        return (await self.write([Create(kind, workspace, name, spec, status)]))[0]

    async def update_spec(self, resource: AnyResource, spec: BaseModel) -> AnyResource:
        """See `Store.update_spec`."""
        return (await self.write([UpdateSpec(resource, spec)]))[0]

    async def update_status(self, resource: AnyResource, status: BaseModel) -> AnyResource:
        """See `Store.update_status`."""
        return (await self.write([UpdateStatus(resource, status)]))[0]

    async def delete(self, resource: AnyResource | Unreadable) -> None:
        """See `Store.delete`."""
        await self.write([Delete(resource)])

    async def record(self, events: Sequence[Event]) -> None:
        """See `Store.record`."""
        if events:
            await self.write([RecordEvents(events)])

    async def keep_traffic(self, minutes: Sequence[Sample]) -> None:
        """See `Store.keep_traffic`."""
        if minutes:
            await self.write([KeepTraffic(minutes)])

    async def keep_journal(self, entries: Sequence[JournalEntry]) -> None:
        """See `Store.keep_journal`."""
        if entries:
            await self.write([KeepJournal(entries)])
