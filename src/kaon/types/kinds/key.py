"""The kind key: who may do what. The text of a key is in no view."""

from __future__ import annotations

from pydantic import Field

from kaon.types.key import KeySpec, KeyStatus, Priority, Right, Role
from kaon.types.kind import Column, Filter, Form, Kind, Verb
from kaon.types.model import Model, Name


class KeyView(Model):
    """A key, without the key."""

    name: str
    workspace: str | None = Field(description="None: every workspace.")
    hint: str = Field(description="Its first characters.")
    role: Role
    deployments: tuple[Name, ...] | None = None
    priority: Priority = Priority.NORMAL
    cloud: str | None = None
    owner: str = Field(default="", description="The key that made it; empty: the platform.")
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    state: str = Field(description="active, or why it gives no access.")
    owns: list[str] = Field(
        default_factory=list,
        description="Deployments that it, or a key that it made, answers for; 'workspace/name' in another workspace.",
    )


KIND = Kind(
    name="key",
    plural="keys",
    summary="A key of the API: its role, its reach, when it ends; never its text.",
    spec=KeySpec,
    status=KeyStatus,
    rights={Verb.LIST: Right.ADMIN, Verb.GET: Right.ADMIN, Verb.DELETE: Right.ADMIN},
    hidden=frozenset({"spec.hash"}),
    answer=KeyView,
    columns=(
        Column("name", lambda k: k.name),
        Column("role", lambda k: k.role),
        Column("priority", lambda k: k.priority),
        Column("deployments", lambda k: ",".join(k.deployments) if k.deployments else "all"),
        Column("state", lambda k: k.state),
        Column("begins with", lambda k: k.hint),
        Column("age", lambda k: k.created_at, Form.AGE),
        Column("owns", lambda k: ",".join(k.owns) or "-", wide=True),
        Column("made by", lambda k: k.owner or "-", wide=True),
        Column("expires", lambda k: k.expires_at, Form.TIME),
    ),
    filters=(
        Filter("role", lambda k: k.role, "Only of this role."),
        Filter("state", lambda k: k.state, "Like active."),
    ),
    made_of=frozenset({"key", "deployment"}),
    everywhere=True,
)
