"""A deployment: what a user wants to run; and its revisions: frozen versions of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from kaon.types.condition import Condition
from kaon.types.model import Digest, EnvName, Model, Name, content_hash
from kaon.types.service import Resources


class Scaling(Model):
    """How many replicas there may be."""

    min: int = Field(default=1, ge=0, le=1000)
    max: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min > self.max:
            raise ValueError(f"scaling.min ({self.min}) is above scaling.max ({self.max})")
        return self


class Rollout(Model):
    """How a new revision takes over."""

    max_surge: int = Field(default=1, ge=1, le=100, description="Replicas beyond the wanted count while it lasts.")
    progress_deadline_s: float = Field(
        default=120.0, gt=0, le=3600, description="A new replica must be ready within this, else the rollout stops."
    )


class Template(Model):
    """The part of a deployment that a replica is made from: another template is another revision."""

    artifact: Digest
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, Name] = Field(
        default_factory=dict, description="Environment variable -> name of the secret that it holds."
    )
    resources: Resources | None = Field(default=None, description="None: as the class says.")
    restarted_at: float = Field(default=0, description="Set to start every replica anew.")


class DeploymentSpec(Model):
    """What a user wants to run."""

    template: Template
    scaling: Scaling = Scaling()
    rollout: Rollout = Rollout()
    public: bool = Field(default=False, description="Answer callers without a key.")
    drain_s: float = Field(default=30.0, ge=0, le=3600, description="Time for requests in flight at a stop.")
    paused: bool = Field(default=False, description="Hold the rollout where it is.")


class RevisionSpec(Model):
    """One frozen version of a deployment."""

    deployment: Name
    deployment_uid: str = Field(default="", description="A deployment of the same name made later has another.")
    number: int = Field(ge=1)
    template: Template
    template_hash: str


class RevisionStatus(Model):
    """Nothing of a revision changes."""


class RolloutState(StrEnum):
    """Where a deployment stands."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    STABLE = "Stable"
    STOPPED = "Stopped"
    """The new revision did not come up. The old one serves; when there is none, the new one is tried on."""
    DEGRADED = "Degraded"
    """Stable, but fewer replicas are ready than wanted."""


class Assignment(Model):
    """How many replicas of a revision must run, and what share of the traffic it gets."""

    revision: int = Field(ge=1)
    replicas: int = Field(ge=0)
    ordinals: tuple[int, ...] = Field(default=(), description="Which replicas: as many as `replicas`.")
    ready: int = Field(default=0, ge=0)
    weight: int = Field(default=0, ge=0, le=100)


class DeploymentStatus(Model):
    """What the control plane made of a deployment."""

    observed_generation: int = 0
    state: RolloutState = RolloutState.PENDING
    reason: str = ""
    stable: int | None = Field(default=None, description="The revision that serves.")
    target: int | None = Field(default=None, description="The revision that should.")
    since: float = Field(default=0, description="When the rollout began or last moved on, epoch seconds.")
    assignments: tuple[Assignment, ...] = ()
    conditions: tuple[Condition, ...] = ()


def template_hash(template: Template) -> str:
    """16 hex digits that name a template."""
    return content_hash(template)[:16]
