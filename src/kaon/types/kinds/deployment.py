"""The kind deployment: what should run, and how it does."""

from __future__ import annotations

from pydantic import Field

from kaon.types.deployment import DeploymentSpec, DeploymentStatus, RolloutState
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Verb
from kaon.types.resource import Resource


class DeploymentView(Resource[DeploymentSpec, DeploymentStatus]):
    """A deployment, with a summary of its state."""

    url: str = Field(description="Where it answers.")
    state: RolloutState = Field(description="State of the current spec, never of an earlier one.")
    reason: str = ""
    ready: int = Field(description="Replicas that are ready.")
    replicas: int = Field(description="Desired replicas now.")
    revision: int | None = Field(description="The revision that serves.")


def at_rest(deployment: DeploymentView) -> str:
    """One word for a deployment that has no replicas and needs none; empty for others."""
    if deployment.state is not RolloutState.STABLE or deployment.replicas:
        return ""
    return "Off" if deployment.spec.scaling.max == 0 else "Idle"


def tuned(deployment: DeploymentView) -> str:
    """One word on its tuner: that a trial runs, or that it recommends other values."""
    tuning = deployment.status.tuning
    return "trying" if tuning.trial else "tunable" if tuning.recommended else ""


def left_out(deployment: DeploymentView) -> str:
    """One word on a bad condition, such as a part that could not be planned or routed; `describe` has the reason."""
    bad = {c.type for c in deployment.status.conditions if c.bad}
    return next((word for name, word in _LEFT_OUT if name in bad), "")


_LEFT_OUT = (
    ("Planned", "not planned"),
    ("Routed", "not routed"),
    ("Unreadable", "unreadable"),
    ("ReconcileFailed", "failing"),
    ("OwnerGone", "owner gone"),
)


def _state(deployment: DeploymentView) -> str:
    parts = (at_rest(deployment) or deployment.state, tuned(deployment), left_out(deployment))
    return ", ".join(part for part in parts if part)


KIND = Kind(
    name="deployment",
    plural="deployments",
    short=("deploy", "dep"),
    summary="A service that should run: its artifact, settings, scaling, access.",
    spec=DeploymentSpec,
    status=DeploymentStatus,
    rights={**READ, Verb.PUT: Right.WRITE, Verb.DELETE: Right.WRITE},
    owner="name",
    answer=DeploymentView,
    columns=(
        Column("name", lambda d: d.name),
        Column("ready", lambda d: f"{d.ready}/{d.replicas}"),
        Column("state", _state),
        Column("revision", lambda d: d.revision or "-"),
        Column("age", lambda d: d.created_at, Form.AGE),
        Column("artifact", lambda d: d.spec.template.artifact[7:19], wide=True),
        Column("scaling", lambda d: f"{d.spec.scaling.min}..{d.spec.scaling.max}", wide=True),
        Column("owner", lambda d: d.spec.owner or "-", wide=True),
        Column("url", lambda d: d.url),
    ),
    filters=(Filter("state", lambda d: d.state, "Only in this state, like Stable."),),
)
