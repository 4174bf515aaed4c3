"""The audit record of a change; pure."""

from __future__ import annotations

from typing import Any

from kaon.store.writes import Create, Delete, UpdateSpec, UpdateStatus
from kaon.types.audit import ActorKind, AuditRecord
from kaon.types.model import content_hash
from kaon.types.resource import Resource

AuditedWrite = Create | UpdateSpec | UpdateStatus | Delete


def audited(change: AuditedWrite, *, at: float, verb: str, actor: str, **who: str) -> AuditRecord:
    """The record of a change: of the spec, or of the status for `UpdateStatus`."""
    match change:
        case Create(kind, workspace, name, spec, uid=uid):
            place: dict[str, Any] = {"kind": kind, "workspace": workspace, "name": name, "uid": uid}
            before, after = "", content_hash(spec)
        case UpdateSpec(resource, spec):
            place = _place(resource)
            before, after = content_hash(resource.spec), content_hash(spec)
        case UpdateStatus(resource, status):
            place = _place(resource)
            before, after = content_hash(resource.status), content_hash(status)
        case Delete(resource):
            place = _place(resource)
            before, after = content_hash(resource.spec) if isinstance(resource, Resource) else "", ""
    return AuditRecord.model_validate(
        {"at": at, "verb": verb, "actor": actor, "before": before, "after": after, **place, **who}
    )


def by_controller(change: AuditedWrite, *, at: float, verb: str, controller: str) -> AuditRecord:
    """The record of a controller's change of a spec."""
    return audited(change, at=at, verb=verb, actor=controller, actor_kind=ActorKind.CONTROLLER.value)


def _place(resource: Any) -> dict[str, Any]:
    return {field: getattr(resource, field) for field in ("kind", "workspace", "name", "uid")}
