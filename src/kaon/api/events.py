"""`/workspaces/{ws}/events`: what happened, and who did it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from kaon.api.doors import Doors
from kaon.api.parts import InWorkspace, WithCaller, WithParts
from kaon.api.views import Items
from kaon.store.port import AnyResource
from kaon.types.event import Event
from kaon.types.key import Right
from kaon.types.resource import KINDS

_KEPT = 10_000
doors = Doors("/workspaces/{ws}/events", tag="events")


@doors.get("", right=Right.READ)
async def list_events(
    ws: InWorkspace,
    parts: WithParts,
    caller: WithCaller,
    kind: Annotated[str | None, Query(pattern=r"^[a-z]{1,40}$", description="Only about this kind.")] = None,
    name: Annotated[
        str | None, Query(pattern=r"^[a-z0-9:-]{1,80}$", description="Only about the resource of this name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Items[Event]:
    """The newest events, oldest of them first."""
    names = caller.standing.deployments
    if names is None:
        found = await parts.store.events(ws, kind, name, limit)
        about = parts.snapshot.find(kind, ws, name) if kind in KINDS and name else None
        return Items(items=found if about is None else [e for e in found if _is_of(about, e)])
    own = {d.name: d for d in parts.snapshot.list("deployment", ws) if d.name in names}
    found = await parts.store.events(ws, kind, name, _KEPT)
    return Items(items=[e for e in found if (about := own.get(_deployment(e))) and _is_of(about, e)][-limit:])


def _deployment(event: Event) -> str:
    """The deployment that it is about, or whose revision or replica (`web`, `web-3`, `web-3-0`); empty: none."""
    steps = {"deployment": 0, "revision": 1, "replica": 2}.get(event.kind)
    if steps is None:
        return ""
    return event.name.rsplit("-", steps)[0] if steps else event.name


def _is_of(resource: AnyResource, event: Event) -> bool:
    """Whether it is about `resource` and not about one that had its name before."""
    if event.kind == resource.kind and event.uid:
        return event.uid == resource.uid
    return event.at >= resource.created_at
