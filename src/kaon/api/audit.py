"""Changes by callers: each is written together with its audit record and its event."""

from __future__ import annotations

from collections.abc import Sequence

from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.context import request_id
from kaon.store.audited import AuditedWrite, audited
from kaon.store.port import AnyResource
from kaon.store.writes import Create, Delete, RecordAudit, RecordEvents, UpdateSpec, UpdateStatus, Write
from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.resource import Unreadable


def record_of(context: ApiContext, caller: Caller, change: AuditedWrite) -> AuditRecord:
    """The audit record of a change that `caller` makes now."""
    return audited(change, at=context.clock.now(), verb=caller.verb, actor=caller.name, **origin(caller))


def origin(caller: Caller) -> dict[str, str]:
    """The key, the address and the request id, as audit records have them."""
    return {"actor_uid": caller.uid, "address": caller.address, "request_id": request_id.get()}


def recorded(
    context: ApiContext, caller: Caller, change: AuditedWrite, reason: str, message: str, *, event_in: str | None = None
) -> list[Write]:
    """A change, its audit record and its event, for one `Store.write`.

    The event is kept in the resource's workspace, or in `event_in` for a resource of no workspace.
    """
    record = record_of(context, caller, change)
    event = Event(
        at=record.at,
        workspace=record.workspace if event_in is None else event_in,
        kind=record.kind,
        name=record.name,
        uid=record.uid,
        reason=reason,
        message=f"{message} By key '{caller.name}'.",
    )
    return [change, RecordAudit([record]), RecordEvents([event])]


def with_record(context: ApiContext, caller: Caller, change: AuditedWrite) -> list[Write]:
    """A change and its audit record, without an event."""
    return [change, RecordAudit([record_of(context, caller, change)])]


async def write(
    context: ApiContext,
    caller: Caller,
    change: Create | UpdateSpec | UpdateStatus,
    reason: str,
    message: str,
    *,
    first: Sequence[Write] = (),
    event_in: str | None = None,
) -> AnyResource:
    """Write a change, after those in `first`, in one transaction. Returns the resource as written.

    A change that changes nothing gets no record and no event. Raises what `Store.write` raises.
    """
    writes: list[Write] = [change]
    if not _is_same(change):
        writes = recorded(context, caller, change, reason, message, event_in=event_in)
    return (await context.store.write([*first, *writes]))[-1]


async def delete(
    context: ApiContext,
    caller: Caller,
    resource: AnyResource | Unreadable,
    reason: str,
    message: str,
    *,
    event_in: str | None = None,
) -> None:
    """Delete a resource if it is still as it was read. Raises what `Store.write` raises."""
    await context.store.write(recorded(context, caller, Delete(resource), reason, message, event_in=event_in))


async def note(
    context: ApiContext,
    caller: Caller,
    *,
    workspace: str,
    kind: str,
    name: str,
    reason: str,
    message: str,
    uid: str = "",
) -> None:
    """Write an audit record and an event for something that `caller` has already done."""
    place = {"workspace": workspace, "kind": kind, "name": name, "uid": uid}
    at, who = context.clock.now(), {"verb": caller.verb, "actor": caller.name, **origin(caller)}
    record = AuditRecord(at=at, **place, **who)
    event = Event(at=at, reason=reason, message=f"{message} By key '{caller.name}'.", **place)
    await context.store.write([RecordAudit([record]), RecordEvents([event])])


def _is_same(change: Create | UpdateSpec | UpdateStatus) -> bool:
    match change:
        case UpdateSpec(resource, spec):
            return bool(resource.spec == spec)
        case UpdateStatus(resource, status):
            return bool(resource.status == status)
    return False
