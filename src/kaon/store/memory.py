"""A store in memory, for tests and the simulator, with the same contract as the others."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kaon.clock import Clock, SystemClock
from kaon.laws.retention import Keep
from kaon.store.port import AnyResource, AuditQuery, AuditRetention, Change
from kaon.store.records import (
    EVENTS_KEPT,
    JOURNAL_KEPT,
    TOMBSTONES_KEPT_S,
    TRAFFIC_KEPT_S,
    Life,
    assemble,
    belongs,
    changed,
    check_epoch,
    missing,
    name_taken,
    replaced,
)
from kaon.store.single import SingleWrites
from kaon.store.writes import (
    Create,
    Delete,
    KeepJournal,
    KeepTraffic,
    RecordAudit,
    RecordEvents,
    UpdateSpec,
    UpdateStatus,
    Write,
)
from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.names import DeploymentKey, ResourceKey
from kaon.types.resource import Unreadable
from kaon.types.traffic import Sample


class MemoryStore(SingleWrites):
    """`Store` in a dictionary, for one event loop."""

    def __init__(self, clock: Clock | None = None, audit: AuditRetention | None = None) -> None:
        self._clock = clock or SystemClock()
        self._retention = audit or AuditRetention()
        self._resources: dict[ResourceKey, AnyResource] = {}
        self._changes: dict[ResourceKey, Change] = {}  # the last of each name, in order of version
        self._events: defaultdict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=EVENTS_KEPT))
        self._minutes: defaultdict[DeploymentKey, dict[tuple[float, int], Sample]] = defaultdict(dict)
        self._journal: defaultdict[DeploymentKey, _Journal] = defaultdict(_Journal)
        self._audit: deque[AuditRecord] = deque(maxlen=self._retention.records)
        self._audit_id = 0
        self._lives: dict[ResourceKey, Life] = {}
        self._ended_at: dict[ResourceKey, float] = {}
        self._version = 0
        self._event_id = 0
        self._epoch = 0
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def get(self, kind: str, workspace: str, name: str) -> AnyResource:
        """See `Store.get`."""
        found = await self.find(kind, workspace, name)
        if found is None:
            raise missing(kind, workspace, name)
        return found

    async def find(self, kind: str, workspace: str, name: str) -> AnyResource | None:
        """See `Store.find`."""
        return self._resources.get((kind, workspace, name))

    async def list_all(
        self, kind: str, workspace: str | None = None, *, unreadable: list[Unreadable] | None = None
    ) -> list[AnyResource]:
        """See `Store.list_all`."""
        return [
            resource
            for address, resource in sorted(self._resources.items())
            if address[0] == kind and workspace in (None, address[1])
        ]

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """See `Store.write`. All writes are checked before any is made."""
        check_epoch(epoch, self._epoch)
        checked = _Checked(self._resources, self._version, self._clock.now())
        steps = [(write, checked.after(write)) for write in writes]
        for write, resource in steps:
            self._keep(write, resource)
        return [resource for _, resource in steps if resource is not None]

    def _keep(self, write: Write, resource: AnyResource | None) -> None:
        match write:
            case RecordEvents(events):
                self._record(events)
            case KeepTraffic(minutes):
                self._keep_traffic(minutes)
            case KeepJournal(entries):
                self._keep_journal(entries)
            case RecordAudit(records):
                self._record_audit(records)
            case Delete(gone):
                self._remove(gone)
            case _ if resource is not None and resource.version > self._version:  # an equal value changes nothing
                self._put(resource)

    @property
    def written(self) -> int:
        """See `Store.written`."""
        return self._version

    async def version(self) -> int:
        """See `Store.version`."""
        return self._version

    async def epoch(self) -> int:
        """See `Store.epoch`."""
        return self._epoch

    async def advance_epoch(self) -> int:
        """See `Store.advance_epoch`."""
        self._epoch += 1
        return self._epoch

    async def changes(self, after: int) -> list[Change]:
        """See `Store.changes`."""
        newest = itertools.takewhile(lambda change: change.version > after, reversed(self._changes.values()))
        found = [replace(c, resource=self._resources.get((c.kind, c.workspace, c.name))) for c in newest]
        return found[::-1]

    async def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """See `Store.watch`."""
        while True:
            news = self._news
            changes = await self.changes(after)
            if changes:
                after = changes[-1].version
                yield changes
            else:
                await news.wait()

    def _record(self, events: Sequence[Event]) -> None:
        for event in events:
            if belongs(self._lives.get(("workspace", "", event.workspace)), "", event.at):
                self._event_id += 1
                self._events[event.workspace].append(event.model_copy(update={"id": self._event_id}))

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
        found = [e for e in self._events[workspace] if kind in (None, e.kind) and name in (None, e.name)]
        if after is not None:
            return [e for e in found if e.id > after][: max(limit, 0)]
        return found[-limit:] if limit > 0 else []

    def _keep_traffic(self, minutes: Sequence[Sample]) -> None:
        for minute in minutes:
            life = self._lives.get(("deployment", minute.workspace, minute.deployment))
            if not belongs(life, "", minute.at_s):
                continue
            self._minutes[minute.workspace, minute.deployment][minute.at_s, minute.revision] = minute
        since_s = self._clock.now() - TRAFFIC_KEPT_S
        for address, kept in list(self._minutes.items()):
            self._minutes[address] = {place: minute for place, minute in kept.items() if minute.at_s > since_s}

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """See `Store.traffic`."""
        kept = self._minutes[workspace, deployment]
        return [kept[place] for place in sorted(kept) if place[0] > since_s]

    def _keep_journal(self, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            life = self._lives.get(("deployment", entry.workspace, entry.deployment))
            if belongs(life, entry.uid, entry.at):
                self._journal[entry.workspace, entry.deployment].add(entry)

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """See `Store.journal`."""
        found = self._journal[workspace, deployment].entries(concern)
        return found[-limit:] if limit > 0 else []

    async def audit(self, query: AuditQuery) -> list[AuditRecord]:
        """See `Store.audit`."""
        found = [record for record in reversed(self._audit) if _wanted(record, query)]
        return found[: max(query.limit, 0)]

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """See `Store.outdated`."""
        return {name: len(rows) for name, rows in self._outdated(keep).items()}

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        """See `Store.sweep`."""
        check_epoch(epoch, self._epoch)
        outdated = self._outdated(keep)
        for event in outdated["events"]:
            self._events[event.workspace].remove(event)
        for place in outdated["decisions"]:
            self._journal.pop(place, None)
        for place, minute in outdated["traffic"]:
            del self._minutes[place][minute]
        for address in outdated["deleted"]:
            del self._lives[address], self._ended_at[address]
            self._changes.pop(address, None)
        return {name: len(rows) for name, rows in outdated.items()}

    def _outdated(self, keep: Keep) -> dict[str, list[Any]]:
        """What can be deleted: events, deployments whose decisions are unused, minutes, names of deleted resources."""
        now = self._clock.now()
        uids = {resource.uid for resource in self._resources.values()}
        live = {(workspace, name) for kind, workspace, name in self._resources if kind == "deployment"}
        workspaces = {name for kind, _, name in self._resources if kind == "workspace"}

        def unused(event: Event) -> bool:
            unowned = event.workspace not in workspaces or (
                event.uid != "" and event.uid not in uids and event.at < now - keep.gone_s
            )
            return unowned or event.at < now - keep.events_s

        return {
            "events": [event for events in self._events.values() for event in events if unused(event)],
            "decisions": [place for place, kept in self._journal.items() if place not in live and kept],
            "traffic": [
                (place, minute)
                for place, kept in self._minutes.items()
                for minute in kept
                if place not in live or minute[0] <= now - TRAFFIC_KEPT_S
            ],
            "deleted": [
                address
                for address, life in self._lives.items()
                if life.ended and self._ended_at[address] < now - TOMBSTONES_KEPT_S
            ],
        }

    def _record_audit(self, records: Sequence[AuditRecord]) -> None:
        for record in records:
            self._audit_id += 1
            self._audit.append(record.model_copy(update={"id": self._audit_id}))
        while self._audit and self._audit[0].at < self._clock.now() - self._retention.age_s:
            self._audit.popleft()

    def _put(self, resource: AnyResource) -> None:
        address = _address(resource)
        self._resources[address] = resource
        self._lives[address] = Life(resource.uid, resource.created_at, ended=False)
        self._notify(resource, deleted=False)

    def _remove(self, resource: AnyResource | Unreadable) -> None:
        address = _address(resource)
        del self._resources[address]
        self._notify(resource, deleted=True)
        self._lives[address] = Life(resource.uid, resource.created_at, ended=True)
        self._ended_at[address] = self._clock.now()
        match resource.kind:
            case "deployment":
                self._minutes.pop((resource.workspace, resource.name), None)
                self._journal.pop((resource.workspace, resource.name), None)
            case "workspace":
                self._events.pop(resource.name, None)
                for kept in (self._minutes, self._journal):
                    for place in [place for place in kept if place[0] == resource.name]:
                        del kept[place]

    def _notify(self, resource: AnyResource | Unreadable, *, deleted: bool) -> None:
        self._version += 1
        kind, workspace, name = address = _address(resource)
        self._changes.pop(address, None)
        self._changes[address] = Change(
            version=self._version, kind=kind, workspace=workspace, name=name, deleted=deleted
        )
        woken, self._news = self._news, asyncio.Event()
        woken.set()


class _Checked:
    """The result of a list of writes: each is checked against the state after the ones before it."""

    def __init__(self, before: Mapping[ResourceKey, AnyResource], version: int, now: float) -> None:
        self._before = before
        self._after: dict[ResourceKey, AnyResource | None] = {}
        self._version = version
        self._now = now

    def after(self, write: Write) -> AnyResource | None:
        """The new state of the resource that `write` creates or updates. Raises `Conflict`, `NotFound`."""
        match write:
            case Create(kind, workspace, name, spec, status, uid, at):
                if self._current((kind, workspace, name)) is not None:
                    raise name_taken(kind, workspace, name)
                at = self._now if at is None else at
                fields = {"workspace": workspace, "name": name, "uid": uid, "generation": 1}
                return self._next(assemble(kind, spec, status, version=0, created_at=at, updated_at=at, **fields), at)
            case UpdateSpec(basis, spec):
                same = changed(basis, self._current(_address(basis)), lambda current: bool(current.spec == spec))
                return same or self._next(replaced(basis, spec=spec, generation=basis.generation + 1), self._now)
            case UpdateStatus(basis, status):
                same = changed(basis, self._current(_address(basis)), lambda current: bool(current.status == status))
                return same or self._next(replaced(basis, status=status), self._now)
            case Delete(basis):
                changed(basis, self._current(_address(basis)))
                self._version += 1
                self._after[_address(basis)] = None
        return None

    def _current(self, address: ResourceKey) -> AnyResource | None:
        return self._after[address] if address in self._after else self._before.get(address)

    def _next(self, resource: AnyResource, at: float) -> AnyResource:
        self._version += 1
        made: AnyResource = resource.model_copy(update={"version": self._version, "updated_at": at})
        self._after[_address(made)] = made
        return made


def _wanted(record: AuditRecord, query: AuditQuery) -> bool:
    return (
        query.workspace in (None, record.workspace)
        and query.actor in (None, record.actor)
        and query.kind in (None, record.kind)
        and query.name in (None, record.name)
        and query.verb in (None, record.verb)
        and query.uid in (None, record.uid)
        and (query.names is None or record.name in query.names)
        and (query.since is None or record.at >= query.since)
        and (query.before_id is None or record.id < query.before_id)
    )


class _Journal:
    """A deployment's decisions: the newest of each concern."""

    def __init__(self) -> None:
        self._kept: defaultdict[str, deque[tuple[int, JournalEntry]]] = defaultdict(lambda: deque(maxlen=JOURNAL_KEPT))
        self._count = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, entry: JournalEntry) -> None:
        self._count += 1
        self._kept[entry.concern].append((self._count, entry))

    def entries(self, concern: str | None) -> list[JournalEntry]:
        """Of one concern or of all, oldest first."""
        kept = self._kept.values() if concern is None else [self._kept.get(concern, deque())]
        return [entry for _, entry in sorted((pair for of_one in kept for pair in of_one), key=lambda pair: pair[0])]


def _address(resource: AnyResource | Unreadable) -> ResourceKey:
    return resource.kind, resource.workspace, resource.name
