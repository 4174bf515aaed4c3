"""What the API answers and takes, beside the views of the kinds, which are declared in `kaon.types.kinds`.

Views add what a reader wants to see at once (URL, state, counts) and leave out what nobody may see (hashes
of keys, values of secrets).
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import Field, SecretStr, StringConstraints, model_validator

from kaon.types.audit import AuditRecord
from kaon.types.deployment import Floor, Scaling
from kaon.types.journal import JournalEntry
from kaon.types.key import Priority, Role
from kaon.types.kinds.artifact import ArtifactView
from kaon.types.kinds.cloud import CloudView
from kaon.types.kinds.deployment import DeploymentView
from kaon.types.kinds.key import KeyView
from kaon.types.kinds.replica import ReplicaView
from kaon.types.kinds.revision import RevisionState
from kaon.types.kinds.secret import SecretView
from kaon.types.kinds.workspace import WorkspaceView
from kaon.types.model import Model, Name

__all__ = [
    "ArtifactView",
    "AuditPage",
    "CloudView",
    "Decisions",
    "DeploymentView",
    "Items",
    "KeyMade",
    "KeyRequest",
    "KeyView",
    "PlainText",
    "PlatformHealth",
    "ReplicaView",
    "RevisionState",
    "ScalingChange",
    "SecretRequest",
    "SecretView",
    "UndoRequest",
    "Whoami",
    "WorkspaceRequest",
    "WorkspaceView",
]

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
    """A list, or a page of one."""

    items: list[T]
    next: str | None = Field(default=None, description="`after` of the next page; null: there is none.")
    version: int | None = Field(
        default=None, description="Of the store as the list was read: `since` of a watch that goes on from it."
    )
    unreadable: list[UnreadableView] = Field(
        default_factory=list, description="What belongs to the list and cannot be read; on its last page."
    )


class AuditPage(Model):
    """Audit records, newest first."""

    items: list[AuditRecord]
    next: str | None = Field(default=None, description="`after` of the next page; null: there is none.")


class PlatformHealth(Model):
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


class Decisions(Model):
    """What was decided for a deployment, and what its scaling law says now."""

    items: list[JournalEntry]
    now: JournalEntry | None = Field(default=None, description="None: its number of replicas is fixed.")


class ScalingChange(Model):
    """What of a deployment's scaling is to be another; what is not named stays as it is."""

    min: int | None = Field(default=None, ge=0, le=1000)
    max: int | None = Field(default=None, ge=0, le=1000)
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


class KeyMade(KeyView):
    """A new key. This is the only time that it can be seen."""

    key: str


class SecretRequest(Model):
    """A secret's value."""

    value: SecretStr = Field(max_length=65_536)
