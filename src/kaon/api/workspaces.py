"""`/workspaces`: tenants."""

from __future__ import annotations

from kaon.api import audit, edits
from kaon.api.doors import Doors
from kaon.api.parts import InWorkspace, Parts, WithCaller, WithParts
from kaon.api.unreadable import unreadable_in
from kaon.api.views import Items, WorkspaceRequest, WorkspaceView
from kaon.errors import Conflict, Forbidden
from kaon.store.garbage import discard
from kaon.store.port import AnyResource, Unreadable
from kaon.types.key import Right
from kaon.types.workspace import DEFAULT_WORKSPACE, WorkspaceSpec

doors = Doors("/workspaces", tag="workspaces")


@doors.get("", right=Right.READ)
async def list_workspaces(parts: WithParts, caller: WithCaller) -> Items[WorkspaceView]:
    """The workspaces of the key."""
    found = await parts.store.list_all("workspace", "")
    return Items(
        items=[WorkspaceView(**dict(w)) for w in found if caller.standing.sees(w.name)],
        unreadable=unreadable_in(parts, caller, "workspace", ""),
    )


@doors.post("", right=Right.ADMIN, status_code=201)
async def create_workspace(body: WorkspaceRequest, parts: WithParts, caller: WithCaller) -> WorkspaceView:
    """Make a workspace. For admins of every workspace."""
    if caller.standing.workspace is not None or caller.standing.deployments is not None:
        raise Forbidden("Workspaces are made by an admin of every workspace.", hint="Ask one of them.")
    made = await parts.store.create("workspace", "", body.name, WorkspaceSpec(description=body.description))
    await audit.note(
        parts,
        caller,
        workspace=body.name,
        kind="workspace",
        name=body.name,
        reason="WorkspaceMade",
        message="Made.",
    )
    return WorkspaceView(**dict(made))


@doors.delete("/{ws}", right=Right.ADMIN, status_code=204)
async def delete_workspace(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> None:
    """Take an empty workspace away, with its keys, secrets and artifacts. For admins of every workspace."""
    if caller.standing.workspace is not None or caller.standing.deployments is not None:
        raise Forbidden("Workspaces are taken away by an admin of every workspace.", hint="Ask one of them.")
    if ws == DEFAULT_WORKSPACE:
        raise Conflict("The default workspace stays.", hint="Delete what is in it instead.")
    if deployments := await _all(parts, "deployment", ws):
        names = ", ".join(d.name for d in deployments[:5])
        raise Conflict(
            f"Workspace '{ws}' still has deployments: {names}.",
            hint=f"Remove them first: kaon rm {deployments[0].name}",
        )
    await discard(parts.store, parts.blobs, await _all(parts, "artifact", ws))
    for kind in ("key", "secret"):
        for resource in await _all(parts, kind, ws):
            await edits.remove(parts.store, kind, ws, resource.name)
    await edits.remove(parts.store, "workspace", "", ws)
    await audit.note(
        parts,
        caller,
        workspace=DEFAULT_WORKSPACE,
        kind="workspace",
        name=ws,
        reason="WorkspaceDeleted",
        message="Deleted.",
    )


async def _all(parts: Parts, kind: str, ws: str) -> list[AnyResource | Unreadable]:
    """The resources of a kind in a workspace, those that cannot be read included."""
    unreadable: list[Unreadable] = []
    return [*await parts.store.list_all(kind, ws, unreadable=unreadable), *unreadable]
