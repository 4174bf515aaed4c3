"""The kind revision: a frozen version of a deployment, made by the control plane."""

from __future__ import annotations

from pydantic import Field

from kaon.types.deployment import RevisionSpec, RevisionStatus
from kaon.types.kind import READ, Column, Filter, Form, Kind
from kaon.types.model import Digest, Model


class RevisionState(Model):
    """One frozen version of a deployment."""

    name: str = ""
    number: int
    created_at: float
    artifact: Digest
    state: str = Field(description="serving, coming, on trial, shadow, failed or past.")
    outcome: str = Field(default="", description="What became of it: served, failed, rolled back or withdrawn.")
    reason: str = Field(default="", description="Why.")
    replicas: int = 0
    ready: int = 0
    spec: RevisionSpec


KIND = Kind(
    name="revision",
    plural="revisions",
    short=("rev",),
    summary="A frozen version of a deployment; made by the platform for each new template.",
    spec=RevisionSpec,
    status=RevisionStatus,
    rights=READ,
    owner="spec.deployment",
    answer=RevisionState,
    columns=(
        Column("deployment", lambda r: r.spec.deployment),
        Column("revision", lambda r: r.number),
        Column("state", lambda r: r.state),
        Column("ready", lambda r: f"{r.ready}/{r.replicas}"),
        Column("age", lambda r: r.created_at, Form.AGE),
        Column("artifact", lambda r: r.artifact[7:19]),
        Column("outcome", lambda r: f"{r.outcome}: {r.reason}" if r.reason else r.outcome, Form.LINE),
    ),
    filters=(
        Filter("deployment", lambda r: r.spec.deployment, "Only of this deployment."),
        Filter("state", lambda r: r.state, "Only in this state, like serving."),
    ),
    order=lambda r: (r.spec.deployment, r.spec.number),
    made_of=frozenset({"deployment"}),
)
