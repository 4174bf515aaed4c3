"""The kind secret: a value that replicas get. The value is in no view."""

from __future__ import annotations

from pydantic import Field

from kaon.types.key import Right
from kaon.types.kind import READ, Column, Form, Kind, Verb
from kaon.types.model import Model
from kaon.types.secret import SecretSpec, SecretStatus


class SecretView(Model):
    """A secret, without its value."""

    name: str
    workspace: str
    version: int
    created_at: float
    updated_at: float
    used_by: list[str] = Field(default_factory=list, description="Deployments that get it.")
    kept_by: list[str] = Field(
        default_factory=list, description="Revisions, as 'name revision 3', that need it only after an undo."
    )


KIND = Kind(
    name="secret",
    plural="secrets",
    summary="A value that replicas get, and that no answer holds.",
    spec=SecretSpec,
    status=SecretStatus,
    rights={**READ, Verb.PUT: Right.WRITE, Verb.DELETE: Right.WRITE},
    hidden=frozenset({"spec.ciphertext", "spec.key_id"}),
    answer=SecretView,
    columns=(
        Column("name", lambda s: s.name),
        Column("used by", lambda s: ",".join(s.used_by) or "-"),
        Column("age", lambda s: s.created_at, Form.AGE, wide=True),
        Column("changed", lambda s: s.updated_at, Form.AGE),
    ),
    made_of=frozenset({"deployment", "revision"}),
)
