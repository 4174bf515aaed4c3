"""`/workspaces/{ws}/events`: what happened, and who did it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from kaon.api.doors import Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, WithCaller, WithParts
from kaon.api.views import Items
from kaon.types.event import Event
from kaon.types.key import Right

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
    if caller.standing.deployments is None:
        return Items(items=await parts.store.events(ws, kind, name, limit))
    found = await parts.store.events(ws, kind, name, _KEPT)
    return Items(items=[e for e in found if _is_own(caller, e)][-limit:])


def _is_own(caller: Caller, event: Event) -> bool:
    """Whether it is about a deployment of the key, or a revision or replica of one (`web`, `web-3`, `web-3-0`)."""
    names = caller.standing.deployments or frozenset()
    if event.kind == "deployment":
        return event.name in names
    if event.kind in ("revision", "replica"):
        steps = 1 if event.kind == "revision" else 2
        return event.name.rsplit("-", steps)[0] in names
    return False
