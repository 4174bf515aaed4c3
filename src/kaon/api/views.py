"""What the API answers and takes, where that is not a resource as the store has it.

Views add what a reader wants to see at once (URL, state, counts) and leave out what nobody may see (hashes
of keys, values of secrets).
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import Field, SecretStr, StringConstraints, model_validator

from kaon.types.artifact import ArtifactSpec, ArtifactStatus
from kaon.types.audit import AuditRecord
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import (
    DeploymentSpec,
    DeploymentStatus,
    Floor,
    Law,
    RevisionSpec,
    RolloutState,
    Scaling,
)
from kaon.types.journal import JournalEntry
from kaon.types.key import Priority, Role
from kaon.types.model import Digest, Model, Name
from kaon.types.plan import EdgeStatus
from kaon.types.resource import Resource, Workspace

T = TypeVar("T")

PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=500)]
"""One line for people, without control characters: a terminal shows it as it is."""


class UnreadableView(Model):
    """Something that is stored in a form that cannot be read."""

    kind: str
    workspace: str
    name: str
    reason: str = Field(description="Where and what.")
    hint: str = Field(default="", description="The next thing to do.")


class Items(Model, Generic[T]):
    """A list."""

    items: list[T]
    unreadable: list[UnreadableView] = Field(
        default_factory=list, description="What belongs to the list and cannot be read."
    )


class AuditPage(Model):
    """Audit records, newest first."""

    items: list[AuditRecord]
    next: str | None = Field(default=None, description="`after` of the next page; null: there is none.")


class Health(Model):
    """The API runs."""

    status: str = "ok"
    version: str


class Whoami(Model):
    """The key that asks."""

    key: str
    role: Role
    workspace: str | None = Field(description="None: every workspace.")
    deployments: list[str] | None = Field(default=None, description="None: all of the workspace.")
    cloud: str | None = None
    expires_at: float | None = None


class WorkspaceRequest(Model):
    """A workspace to be made."""

    name: Name
    description: PlainText = ""


class WorkspaceView(Workspace):
    """A tenant."""


class ArtifactView(Resource[ArtifactSpec, ArtifactStatus]):
    """An immutable build of a service."""


class DeploymentView(Resource[DeploymentSpec, DeploymentStatus]):
    """A deployment, with what people ask first."""

    url: str = Field(description="Where it answers.")
    state: RolloutState = Field(description="Of the spec as it is now: never that of a spec before it.")
    reason: str = ""
    ready: int = Field(description="Replicas that are ready.")
    replicas: int = Field(description="Replicas that there should be now.")
    revision: int | None = Field(description="The revision that serves.")


class RevisionState(Model):
    """One frozen version of a deployment."""

    number: int
    created_at: float
    artifact: Digest
    state: str = Field(description="serving, coming, on trial, shadow, failed or past.")
    outcome: str = Field(default="", description="What became of it: served, failed, rolled back or withdrawn.")
    reason: str = Field(default="", description="Why.")
    replicas: int = 0
    ready: int = 0
    spec: RevisionSpec


class Decisions(Model):
    """What was decided for a deployment, and what its scaling law says now."""

    items: list[JournalEntry]
    now: JournalEntry | None = Field(default=None, description="None: its number of replicas is fixed.")


class ScalingChange(Model):
    """What of a deployment's scaling is to be another; what is not named stays as it is."""

    min: int | None = Field(default=None, ge=0, le=1000)
    max: int | None = Field(default=None, ge=0, le=1000)
    law: Law | None = None
    floors: tuple[Floor, ...] | None = Field(default=None, max_length=16)
    keep_alive_s: float | None = Field(default=None, ge=1, le=86_400, description="null, when it is named: learnt.")
    hold_s: float | None = Field(default=None, gt=0, le=600)

    def of(self, current: Scaling) -> Scaling:
        """`current` with what is named in its place. Raises `ValueError` when the two do not go together."""
        return Scaling.model_validate(current.model_dump() | self.model_dump(exclude_unset=True))


class UndoRequest(Model):
    """Which revision to go back to."""

    revision: int | None = Field(default=None, ge=1, le=2**31 - 1, description="None: the one before.")


class KeyRequest(Model):
    """A key to be made: never more than the one that makes it."""

    name: Name
    role: Role
    deployments: tuple[Name, ...] | None = Field(
        default=None, min_length=1, max_length=100, description="None: all of the workspace."
    )
    priority: Priority = Field(default=Priority.NORMAL, description="Whose calls go first when not all can be served.")
    expires_at: float | None = Field(default=None, gt=0, lt=1e11, description="Epoch seconds; None: never.")
    cloud: Name | None = Field(default=None, description="For agents: the cloud that it speaks for.")
    everywhere: bool = Field(default=False, description="In every workspace; for admins and agents only.")

    @model_validator(mode="after")
    def _fitting(self) -> KeyRequest:
        if (self.role is Role.AGENT) != (self.cloud is not None):
            raise ValueError("an agent's key names its cloud, and no other key names one")
        if self.everywhere and self.role is not Role.ADMIN:
            raise ValueError("everywhere is for admins")
        if self.role is Role.AGENT and self.deployments is not None:
            raise ValueError("an agent's key is not for deployments")
        return self


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


class KeyMade(KeyView):
    """A new key. This is the only time that it can be seen."""

    key: str


class SecretRequest(Model):
    """A secret's value."""

    value: SecretStr = Field(max_length=65_536)


class SecretView(Model):
    """A secret, without its value."""

    name: str
    workspace: str
    version: int
    created_at: float
    updated_at: float
    used_by: list[str] = Field(default_factory=list, description="Deployments that get it.")
    kept_by: list[str] = Field(
        default_factory=list, description="Revisions, as 'name revision 3', that need it only if somebody goes back."
    )


class CloudView(Model):
    """A place where replicas run."""

    name: str
    driver: str
    edge_url: str
    seen_at: float = Field(description="Epoch seconds of its agent's last report; 0: never.")
    connected: bool = Field(description="Whether its agent reported within 15 s.")
    phase: CloudPhase = CloudPhase.READY
    reason: str = Field(default="", description="Why it is in this phase.")
    cordoned: bool = Field(default=False, description="No new deployments are placed there.")
    edge: EdgeStatus
    replicas: int = Field(description="Replicas there that your key sees.")
    ready: int
