"""The port of the store.

Every resource is one row of one generic table. A write refers to the version that it was based on, and is refused with
`Conflict` after a change in between: there are no locks. A write that returned survives a power cut. `watch` returns
changes after a version; it is a hint, not a source of truth: after a gap read everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    """A filter of audit records; None: any."""

    workspace: str | None = None
    since: float | None = None
    """Only those from this time on, epoch seconds."""
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
    """Limits of number and age of audit records: the oldest are deleted first."""

    records: int = 100_000
    age_s: float = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of one resource, with the resource after it."""

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
        """Finish accepted writes and close all connections."""
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

        Rows that cannot be read are left out and added to `unreadable`, if it is given. They do not prevent others from
        being read.
        """
        ...

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """Make all of these changes, in order and in one transaction, or none of them.

        Returns the new state of the resource of each `Create`, `UpdateSpec` and `UpdateStatus`, in order. Every change
        has its own version. Raises the errors of the single operations, and `StaleEpoch` when there is a newer epoch
        than `epoch`.
        """
        ...

    async def create(
        self, kind: str, workspace: str, name: str, spec: BaseModel, status: BaseModel | None = None
    ) -> AnyResource:
        """Add a resource. Raises `Conflict` when the name is taken."""
        ...

    async def update_spec(self, resource: AnyResource, spec: BaseModel) -> AnyResource:
        """Replace the spec of `resource` as it was read. Raises `Conflict`, `NotFound`.

        An equal spec changes nothing and is no conflict: it returns the current resource.
        """
        ...

    async def update_status(self, resource: AnyResource, status: BaseModel) -> AnyResource:
        """Replace the status of `resource` as it was read. Raises `Conflict`, `NotFound`.

        An equal status changes nothing, wakes no watcher, and returns the current resource.
        """
        ...

    async def delete(self, resource: AnyResource | Unreadable) -> None:
        """Delete `resource` as it was read. Raises `Conflict`, `NotFound`.

        This deletes a deployment's traffic and journal, or a workspace's events, traffic and journals. Later writes for
        a deleted resource, or for a time before the next one of the name was created, are not stored.
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
        """The newest epoch: the number of starts of servers with this store."""
        ...

    async def advance_epoch(self) -> int:
        """Start a new epoch and return it. From now on writes under an earlier one raise `StaleEpoch`."""
        ...

    async def changes(self, after: int) -> Sequence[Change]:
        """The next changes later than version `after`, in order, with the resources; empty when there are none.

        After version 0 these are all resources. Several changes of one resource are merged into the last.
        """
        ...

    def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """The non-empty results of `changes`, endlessly. Close the iterator to stop."""
        ...

    async def record(self, events: Sequence[Event]) -> None:
        """Store events; above 10,000 in a workspace the oldest are deleted."""
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

        Unreadable ones are left out, as in `traffic` and `journal`.
        """
        ...

    async def keep_traffic(self, minutes: Sequence[Sample]) -> None:
        """Store sums over a minute for a week.

        One of the same workspace, deployment, revision and `at_s` is replaced.
        """
        ...

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """A deployment's minutes that end after `since_s`, by time and revision."""
        ...

    async def keep_journal(self, entries: Sequence[JournalEntry]) -> None:
        """Store decisions; above 1,000 of a deployment and concern the oldest are deleted."""
        ...

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """Number of rows that can be deleted: old or ownerless `events`, `decisions`, `traffic`, and `deleted` ones."""
        ...

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        """Delete a batch of these rows, and return their numbers; repeat until none is left."""
        ...

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """A deployment's newest decisions, on one concern or on all, oldest of them first."""
        ...

    async def audit(self, query: AuditQuery) -> list[AuditRecord]:
        """The audit records that match `query`, newest first."""
        ...


class Blobs(Protocol):
    """Bytes by their sha256. Every method raises `Unavailable` when the place where they are cannot be accessed.

    Adapters inherit `kaon.testing.blobs.BlobsContract`.
    """

    deciding: asyncio.Lock
    """Held while it is decided whether bytes stay: by a request that adds an artifact, and by one that deletes one."""

    async def put(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> tuple[str, int]:
        """Keep the bytes; return (digest 'sha256:...', size). Raises `TooLarge`.

        An upload that fails is discarded: none of its bytes can be read, now or after a crash.
        """
        ...

    async def adopt(self, file: Path, digest: str) -> None:
        """Keep the bytes of a file, whose digest was checked and which is not written to any more; the file stays."""
        ...

    async def has(self, digest: str) -> bool:
        """Whether there are bytes of that digest."""
        ...

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes, in chunks. Raises `NotFound`; `Unavailable` at the end when they are not those of the digest."""
        ...

    def within(self, space: str) -> Blobs:
        """Bytes apart from all others, such as those of one workspace's datasets: digests of other spaces are not here.

        The same name gives the same object.
        """
        ...

    async def spaces(self) -> list[str]:
        """The names of spaces that may have bytes."""
        ...

    async def put_files(self, files: Sequence[tuple[str, int]], chunks: AsyncIterator[bytes]) -> None:
        """Keep files of these digests and sizes, whose bytes come one after the other.

        Raises `InvalidInput` when they are others; the files before that one are kept.
        """
        ...

    def read_files(self, digests: Sequence[str], offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of all these, one after the other; of the first one from `offset` on. Raises `NotFound`.

        Digests are for the reader to check.
        """
        ...

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` of which there are no bytes, in order."""
        ...

    async def delete(self, digest: str) -> None:
        """Delete the bytes, if there are any; also what `list_all` lists of an interrupted upload."""
        ...

    async def list_all(self) -> list[Blob]:
        """All bytes, and those of interrupted uploads under names that are no digests."""
        ...
