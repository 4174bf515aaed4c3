"""Reads and writes of resources and events, as SQL, on a given connection or transaction."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from kaon.store import history
from kaon.store.audit import record_audit
from kaon.store.lives import lives, take_along
from kaon.store.port import AnyResource, AuditRetention, Change
from kaon.store.records import (
    EVENTS_KEPT,
    TOMBSTONES_KEPT_S,
    assemble,
    belongs,
    changed,
    name_taken,
    read_row,
    readable,
    replaced,
    unreadable_row,
)
from kaon.store.schema import counters, events, resources
from kaon.store.upgrades import written
from kaon.store.writer import Transaction
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
from kaon.types.event import Event
from kaon.types.model import canonical_json
from kaon.types.names import ResourceKey
from kaon.types.resource import Unreadable

CHANGES_AT_ONCE = 1000
TRIM_EVERY = 128

_FIELDS = ("kind", "workspace", "name", "uid", "version", "generation", "created_at", "updated_at", "spec", "status")
_LIVE = select(*(resources.c[field] for field in _FIELDS)).where(resources.c.deleted.is_(False))


def _at(kind: str, workspace: str, name: str) -> Any:
    return and_(resources.c.kind == kind, resources.c.workspace == workspace, resources.c.name == name)


def _document(resource: AnyResource, part: str) -> str:
    return written(f"{resource.kind}.{part}", _text(getattr(resource, part)))


def _text(model: BaseModel) -> str:
    return canonical_json(model).decode()


def find(connection: Connection, kind: str, workspace: str, name: str) -> AnyResource | None:
    """The resource of that name, or None. Raises `UnreadableRow`."""
    row = connection.execute(_LIVE.where(_at(kind, workspace, name))).first()
    if row is None:
        return None
    found = read_row(row._asdict())
    if isinstance(found, Unreadable):
        raise unreadable_row(found)
    return found


def list_all(
    connection: Connection, kind: str, workspace: str | None, unreadable: list[Unreadable] | None = None
) -> list[AnyResource]:
    """All of a kind, by workspace and name; see `Store.list_all`."""
    query = _LIVE.where(resources.c.kind == kind)
    if workspace is not None:
        query = query.where(resources.c.workspace == workspace)
    found: list[AnyResource] = []
    for row in connection.execute(query):
        read = read_row(row._asdict())
        if not isinstance(read, Unreadable):
            found.append(read)
        elif unreadable is not None:
            unreadable.append(read)
    return sorted(found, key=lambda resource: (resource.workspace, resource.name))  # collations of databases differ


def apply(tx: Transaction, now: float, write: Write, kept: AuditRetention) -> AnyResource | None:
    """Make one change; returns the resource that it creates or updates. Raises `Conflict`, `NotFound`."""
    match write:
        case Create():
            return create(tx, now, write)
        case UpdateSpec(resource, spec):
            return update_spec(tx, now, resource, spec)
        case UpdateStatus(resource, status):
            return update_status(tx, now, resource, status)
        case Delete(resource):
            remove(tx, now, resource)
        case RecordEvents(happened):
            record(tx, happened)
        case KeepTraffic(minutes):
            history.keep_traffic(tx, now, minutes)
        case KeepJournal(entries):
            history.keep_journal(tx, entries)
        case RecordAudit(records):
            record_audit(tx, now, records, kept)
    return None


def create(tx: Transaction, now: float, wanted: Create) -> AnyResource:
    """Add a resource, in the row of a deleted one if there is one. Raises `Conflict`."""
    kind, workspace, name = wanted.kind, wanted.workspace, wanted.name
    at = now if wanted.at is None else wanted.at
    there = tx.connection.execute(select(resources.c.deleted).where(_at(kind, workspace, name))).scalar()
    if there is False:
        raise name_taken(kind, workspace, name)
    made = assemble(
        kind,
        wanted.spec,
        wanted.status,
        workspace=workspace,
        name=name,
        uid=wanted.uid,
        version=tx.next_version(),
        generation=1,
        created_at=at,
        updated_at=at,
    )
    row = made.model_dump(exclude={"spec", "status"})
    row |= {"spec": _document(made, "spec"), "status": _document(made, "status"), "deleted": False}
    write = insert(resources) if there is None else update(resources).where(_at(kind, workspace, name))
    tx.connection.execute(write.values(row))
    tx.note(made)
    return made


def update_spec(tx: Transaction, now: float, basis: AnyResource, spec: BaseModel) -> AnyResource:
    """Replace the spec. Raises `Conflict`, `NotFound`."""
    return _update(tx, now, basis, "spec", spec, generation=basis.generation + 1)


def update_status(tx: Transaction, now: float, basis: AnyResource, status: BaseModel) -> AnyResource:
    """Replace the status. Raises `Conflict`, `NotFound`."""
    return _update(tx, now, basis, "status", status)


def remove(tx: Transaction, now: float, basis: AnyResource | Unreadable) -> None:
    """Delete a resource; its row stays for watchers. Raises `Conflict`, `NotFound`."""
    there = and_(_at(basis.kind, basis.workspace, basis.name), resources.c.deleted.is_(False))
    changed(basis, tx.connection.execute(select(resources.c.uid, resources.c.version).where(there)).first())
    deleted = {"version": tx.next_version(), "deleted": True, "updated_at": now, "spec": "", "status": ""}
    tx.connection.execute(update(resources).where(_at(basis.kind, basis.workspace, basis.name)).values(deleted))
    take_along(tx.connection, basis)


def _update(tx: Transaction, now: float, basis: AnyResource, part: str, value: BaseModel, **more: Any) -> AnyResource:
    """Replace the spec or the status. Values are compared as text: parsing a cloud's report takes time."""
    table, text = resources.c, written(f"{basis.kind}.{part}", _text(value))
    there = and_(_at(basis.kind, basis.workspace, basis.name), table.deleted.is_(False))
    row = tx.connection.execute(select(table.uid, table.version, table[part].label("text")).where(there)).first()
    if changed(basis, row, lambda current: bool(current.text == text)) is not None:
        same = find(tx.connection, basis.kind, basis.workspace, basis.name)
        assert same is not None
        return same
    made = replaced(basis, version=tx.next_version(), updated_at=now, **{part: value}, **more)
    columns = {"version": made.version, "updated_at": now, "generation": made.generation, part: text}
    tx.connection.execute(update(resources).where(there).values(columns))
    tx.note(made)
    return made


def counter(connection: Connection, name: str) -> int:
    """The value of a counter: `version`, the version of the last change, or `epoch`."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one())


def changes_after(
    connection: Connection, version: int, written: MutableMapping[ResourceKey, AnyResource]
) -> list[Change]:
    """The next changes after a version, in order. Resources of this process are taken from `written`.

    A resource that changes again meanwhile is left out: its new change has a later version.
    """
    fields = [resources.c[field] for field in ("version", "kind", "workspace", "name", "deleted")]
    query = select(*fields).where(resources.c.version > version).order_by(resources.c.version).limit(CHANGES_AT_ONCE)
    rows = connection.execute(query).all()
    found: dict[int, AnyResource | Unreadable] = {}
    for row in rows:
        made = written.pop((row.kind, row.workspace, row.name), None)
        if made is not None and made.version == row.version:
            found[row.version] = made
    unread = [row.version for row in rows if not row.deleted and row.version not in found]
    if unread:
        for full in connection.execute(_LIVE.where(resources.c.version.in_(unread))):
            found[full.version] = read_row(full._asdict())
    kept = [row for row in rows if row.deleted or row.version in found]
    return [Change(**row._mapping, resource=found.get(row.version)) for row in kept]


def forget_deleted(tx: Transaction, now: float) -> None:
    """Delete rows of resources that were deleted long ago: no watcher is that far behind."""
    old = and_(resources.c.deleted.is_(True), resources.c.updated_at < now - TOMBSTONES_KEPT_S)
    tx.connection.execute(delete(resources).where(old))


def record(tx: Transaction, happened: Sequence[Event]) -> None:
    """Store events, and from time to time delete the oldest."""
    holders = lives(tx.connection, "workspace", (("", event.workspace) for event in happened))
    happened = [event for event in happened if belongs(holders.get(("", event.workspace)), "", event.at)]
    if not happened:
        return
    ids = tx.event_ids(len(happened))
    rows = [event.model_dump(mode="json") | {"id": id_} for id_, event in zip(ids, happened, strict=True)]
    tx.connection.execute(insert(events), rows)
    newest = {event.workspace: 0 for event in happened}
    for workspace in newest:
        of_workspace = select(events.c.id).where(events.c.workspace == workspace).order_by(events.c.id.desc())
        last = tx.connection.execute(of_workspace.limit(1)).scalar_one()
        if last % TRIM_EVERY < len(happened):
            oldest = tx.connection.execute(of_workspace.offset(EVENTS_KEPT - 1).limit(1)).scalar()
            if oldest is not None:
                too_old = and_(events.c.workspace == workspace, events.c.id < oldest)
                tx.connection.execute(delete(events).where(too_old))


def read_events(
    connection: Connection, workspace: str, kind: str | None, name: str | None, limit: int, after: int | None
) -> list[Event]:
    """Events, the oldest first: the next ones after an id, else the newest."""
    query = select(events).where(events.c.workspace == workspace)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    if name is not None:
        query = query.where(events.c.name == name)
    if after is not None:
        later = query.where(events.c.id > after).order_by(events.c.id)
        return readable(connection.execute(later.limit(min(max(limit, 0), EVENTS_KEPT))), _event, "events")
    rows = connection.execute(query.order_by(events.c.id.desc()).limit(min(max(limit, 0), EVENTS_KEPT))).all()
    return readable(reversed(rows), _event, "events")


def _event(row: Row[Any]) -> Event:
    return Event(**row._mapping)
