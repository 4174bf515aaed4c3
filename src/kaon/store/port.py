"""What the rest of Kaon asks of a store.

Every resource is one row of one generic table. A write names the version that it was based on and is
refused with `Conflict` when somebody wrote in between: there are no locks to hold and none to lose.
A call that returned has survived a power cut. `watch` tells what changed after a version; whoever
missed something reads the world again, so watching is a hint, never a source of truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from kaon.laws.retention import Blob, Keep
from kaon.store.writes import Write
from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.resource import Resource, Unreadable
from kaon.types.traffic import Sample

AnyResource = Resource[Any, Any]


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which audit records are wanted; None: whatever it is."""

    workspace: str | None = None
    since: float | None = None
    """Not from before this, epoch seconds."""
    actor: str | None = None
    kind: str | None = None
    name: str | None = None
    names: Collection[str] | None = None
    """Only about resources of these names."""
    uid: str | None = None
    verb: str | None = None
    before_id: int | None = None
    """Only those with lower numbers: the next page."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditRetention:
    """How many audit records a store keeps, and for how long: the oldest go first."""

    records: int = 100_000
    age_s: float = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of one resource, and what the resource is since."""

    version: int
    kind: str
    workspace: str
    name: str
    deleted: bool = False
    resource: AnyResource | Unreadable | None = field(default=None, compare=False, repr=False)
    """None when it was deleted."""


class Store(Protocol):
    """Resources with compare-and-set and watch; events, traffic by the minute and the journal beside them."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""
        ...

    async def close(self) -> None:
        """Finish what was accepted and let go of everything."""
        ...

    async def get(self, kind: str, workspace: str, name: str) -> AnyResource:
        """The resource of that name. Raises `NotFound`, and `UnreadableRow` for one that cannot be read."""
        ...

    async def find(self, kind: str, workspace: str, name: str) -> AnyResource | None:
        """The resource of that name, or None. Raises `UnreadableRow` for one that cannot be read."""
        ...

    async def list_all(
        self, kind: str, workspace: str | None = None, *, unreadable: list[Unreadable] | None = None
    ) -> list[AnyResource]:
        """All of a kind, in one workspace or in all, by workspace and name.

        What cannot be read is left out and added to `unreadable`, if there is such a list. One row never keeps others
        from being read.
        """
        ...

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """Make all of these changes, in order and in one transaction, or none of them.

        Returns the resource of each `Create`, `UpdateSpec` and `UpdateStatus`, in order, as it is then. Every change
        has a version of its own. Raises what the single operations raise, and `StaleEpoch` when `epoch` is given and
        there is a newer one.
        """
        ...

    async def create(
        self, kind: str, workspace: str, name: str, spec: BaseModel, status: BaseModel | None = None
    ) -> AnyResource:
        """Add a resource. Raises `Conflict` when the name is taken."""
        ...

    async def update_spec(self, resource: AnyResource, spec: BaseModel) -> AnyResource:
        """Replace the spec of `resource` as it was read. Raises `Conflict`, `NotFound`.

        An equal spec changes nothing and is no conflict: it returns what is there.
        """
        ...

    async def update_status(self, resource: AnyResource, status: BaseModel) -> AnyResource:
        """Replace the status of `resource` as it was read. Raises `Conflict`, `NotFound`.

        An equal status changes nothing, wakes no watcher, and returns what is there.
        """
        ...

    async def delete(self, resource: AnyResource | Unreadable) -> None:
        """Delete `resource` as it was read. Raises `Conflict`, `NotFound`.

        A deployment's traffic and journal go with it, and a workspace's events, traffic and journals. What somebody
        writes of them later, or of a time before the next holder of the name was made, is not kept.
        """
        ...

    @property
    def written(self) -> int:
        """The newest version that was written through this object; 0: none."""
        ...

    async def version(self) -> int:
        """The newest version: of the last change of anything."""
        ...

    async def epoch(self) -> int:
        """The newest epoch: how often a server has started over this store."""
        ...

    async def advance_epoch(self) -> int:
        """Begin another epoch and return it. Writes under an earlier one raise `StaleEpoch` from now on."""
        ...

    async def changes(self, after: int) -> Sequence[Change]:
        """The next changes later than version `after`, in order, with the resources; empty when there are none.

        After version 0 these are all resources that there are. Several changes of one resource are told as its last.
        """
        ...

    def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """What `changes` answers, whenever that is something, for ever. Close the iterator to stop."""
        ...

    async def record(self, events: Sequence[Event]) -> None:
        """Keep events; the oldest go when there are too many (10,000 a workspace)."""
        ...

    async def events(
        self,
        workspace: str,
        kind: str | None = None,
        name: str | None = None,
        limit: int = 100,
        *,
        after: int | None = None,
    ) -> list[Event]:
        """The newest events, oldest of them first; with `after`, the next ones behind the event of that id.

        One that cannot be read is left out, as in `traffic` and `journal`.
        """
        ...

    async def keep_traffic(self, minutes: Sequence[Sample]) -> None:
        """Keep sums over a minute for a week.

        One of the same workspace, deployment, revision and `at_s` takes the place of what was there.
        """
        ...

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """A deployment's minutes that end after `since_s`, by time and revision."""
        ...

    async def keep_journal(self, entries: Sequence[JournalEntry]) -> None:
        """Keep decisions; the oldest of a concern go when a deployment has too many of it (1,000)."""
        ...

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """How many rows may go: `events`, `decisions` and `traffic` of owners that are gone, or old ones, and what is
        noted of `deleted` resources."""
        ...

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        """Delete some of these rows, and return how many; again until none is left: others write in between."""
        ...

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """A deployment's newest decisions, on one concern or on all, oldest of them first."""
        ...

    async def audit(self, query: AuditQuery) -> list[AuditRecord]:
        """The audit records that are asked for, newest first."""
        ...


class Blobs(Protocol):
    """Bytes by their sha256."""

    deciding: asyncio.Lock
    """Held while it is decided whether bytes stay: by who keeps an artifact of them, and by who takes one away."""

    async def put(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> tuple[str, int]:
        """Keep the bytes; return (digest 'sha256:...', size). Raises `TooLarge`; leaves nothing half-written."""
        ...

    async def has(self, digest: str) -> bool:
        """Whether the bytes are here."""
        ...

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes, in chunks. Raises `NotFound`."""
        ...

    async def delete(self, digest: str) -> None:
        """Forget the bytes, if they are here."""
        ...

    async def list_all(self) -> list[Blob]:
        """All bytes that are here, those under way included."""
        ...
