"""`/workspaces`: create and delete workspaces."""

from __future__ import annotations

from functools import partial

from kaon.api import audit, edits
from kaon.api.collection import Collection
from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.preconditions import WithPrecondition, check_precondition
from kaon.api.router import AuthorizedRouter
from kaon.api.views import WorkspaceRequest, WorkspaceView
from kaon.errors import Conflict, Forbidden
from kaon.store.garbage import discard
from kaon.store.port import AnyResource
from kaon.store.writes import Create, Delete, RecordAudit
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Unreadable
from kaon.types.workspace import DEFAULT_WORKSPACE, WorkspaceSpec

_WITHIN = ("key", "secret", "dataset-version", "dataset", "job")
"""Kinds whose resources are deleted with their workspace."""

router = AuthorizedRouter("/workspaces", tag="workspaces")
collection = Collection(
    kind=KINDS["workspace"],
    sees=lambda workspace, read: read.caller.rights.sees(workspace.name),
    view=lambda workspace, _: WorkspaceView(**dict(workspace)),
    special=frozenset({Verb.DELETE}),
    parameter="ws",
)


@router.post("", right=Right.ADMIN, status_code=201)
async def create_workspace(body: WorkspaceRequest, context: WithContext, caller: WithCaller) -> WorkspaceView:
    """Create a workspace. For admins of every workspace."""
    if not caller.rights.whole_platform:
        raise Forbidden("Only an admin of every workspace may create workspaces.", hint="Ask one.")
    spec = WorkspaceSpec(description=body.description)
    change = Create("workspace", "", body.name, spec, at=context.clock.now())  # not later than its first event
    made = await audit.write(context, caller, change, "WorkspaceMade", "Created.", event_in=body.name)
    return WorkspaceView(**dict(made))


@router.delete("/{ws}", right=Right.ADMIN, status_code=204)
async def delete_workspace(
    ws: WorkspaceParam, context: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """Delete an empty workspace, with its keys, secrets, datasets and artifacts. For admins of every workspace."""
    if not caller.rights.whole_platform:
        raise Forbidden("Only an admin of every workspace may delete workspaces.", hint="Ask one.")
    if ws == DEFAULT_WORKSPACE:
        raise Conflict("The default workspace cannot be deleted.", hint="Delete what is in it instead.")
    if deployments := await _all(context, "deployment", ws):
        names = ", ".join(d.name for d in deployments[:5])
        raise Conflict(
            f"Workspace '{ws}' still has deployments: {names}.",
            hint=f"Delete them first: kaon rm {deployments[0].name}",
        )
    if jobs := [job for job in context.snapshot.list("job", ws) if not job.status.state.ended]:
        raise Conflict(
            f"Workspace '{ws}' still has jobs that have not ended, such as '{jobs[0].name}'.",
            hint=f"Cancel them first: kaon job cancel {jobs[0].name}",
        )
    artifacts = await _all(context, "artifact", ws)
    await discard(context.store, context.blobs, artifacts, partial(audit.with_record, context, caller))

    async def attempt() -> None:
        workspace = await edits.get_any(context.store, ("workspace", "", ws))
        await check_precondition(context, precondition, workspace, "workspace", "", ws)
        within = [Delete(held) for kind in _WITHIN for held in await _all(context, kind, ws)]
        records = RecordAudit([audit.record_of(context, caller, each) for each in within])
        about = "WorkspaceDeleted", "Deleted."
        own = audit.recorded(context, caller, Delete(workspace), *about, event_in=DEFAULT_WORKSPACE)
        await context.store.write([*within, records, *own])

    await edits.retry_on_conflict(attempt)


async def _all(context: ApiContext, kind: str, ws: str) -> list[AnyResource | Unreadable]:
    """The resources of a kind in a workspace, readable or not."""
    unreadable: list[Unreadable] = []
    return [*await context.store.list_all(kind, ws, unreadable=unreadable), *unreadable]
