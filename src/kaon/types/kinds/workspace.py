"""The kind workspace: a tenant."""

from __future__ import annotations

from kaon.types.key import Right
from kaon.types.kind import READ, Column, Form, Kind, Scope, Verb
from kaon.types.resource import Workspace
from kaon.types.workspace import WorkspaceSpec, WorkspaceStatus


class WorkspaceView(Workspace):
    """A tenant."""


KIND = Kind(
    name="workspace",
    plural="workspaces",
    short=("ws",),
    summary="A tenant: its resources do not exist for keys of other workspaces.",
    scope=Scope.PLATFORM,
    spec=WorkspaceSpec,
    status=WorkspaceStatus,
    rights={**READ, Verb.DELETE: Right.ADMIN},
    answer=WorkspaceView,
    columns=(
        Column("name", lambda w: w.name),
        Column("description", lambda w: w.spec.description),
        Column("age", lambda w: w.created_at, Form.AGE),
    ),
)
