"""Requests and responses of the API, except the views of kinds, which are declared in `kaon.types.kinds`.

Views add what readers need at once (URL, state, counts) and leave out what must stay hidden (hashes of keys, values of
secrets).
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import Field, SecretStr, StringConstraints, model_validator

from kaon.types.audit import AuditRecord
from kaon.types.dataset import DatasetFile
from kaon.types.deployment import Floor, Scaling
from kaon.types.journal import JournalEntry
from kaon.types.key import Priority, Role
from kaon.types.kinds.artifact import ArtifactView
from kaon.types.kinds.cloud import CloudView
from kaon.types.kinds.dataset import DatasetView
from kaon.types.kinds.dataset_version import DatasetVersionView
from kaon.types.kinds.deployment import DeploymentView
from kaon.types.kinds.key import KeyView
from kaon.types.kinds.replica import ReplicaView
from kaon.types.kinds.revision import RevisionState
from kaon.types.kinds.secret import SecretView
from kaon.types.kinds.workspace import WorkspaceView
from kaon.types.model import Digest, Model, Name

__all__ = [
    "ArtifactView",
    "AuditPage",
    "CloudView",
    "DatasetDifference",
    "DatasetVersionView",
    "DatasetView",
    "Decisions",
    "DeploymentView",
    "FilesVerified",
    "Items",
    "KeyMade",
    "KeyRequest",
    "KeyView",
    "LabelRequest",
    "PlainText",
    "PlatformHealth",
    "Push",
    "ReplicaView",
    "RevisionState",
    "ScalingChange",
    "SecretRequest",
    "SecretView",
    "UndoRequest",
    "VersionRequest",
    "Whoami",
    "WorkspaceRequest",
    "WorkspaceView",
]

T = TypeVar("T")

PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=500)]
"""One line without control characters, safe on a terminal."""


class UnreadableView(Model):
    """A stored row that cannot be read."""

    kind: str
    workspace: str
    name: str
    reason: str = Field(description="Which part cannot be read, and why.")
    hint: str = Field(default="", description="The next thing to do.")


class Items(Model, Generic[T]):
    """A list, or a page of one."""

    items: list[T]
    next: str | None = Field(default=None, description="`after` for the next page; null: this is the last one.")
    version: int | None = Field(
        default=None, description="Version of the store when the list was read: `since` for a watch."
    )
    unreadable: list[UnreadableView] = Field(
        default_factory=list, description="Rows of the list that cannot be read; on its last page."
    )


class AuditPage(Model):
    """Audit records, newest first."""

    items: list[AuditRecord]
    next: str | None = Field(default=None, description="`after` for the next page; null: this is the last one.")


class PlatformHealth(Model):
    """The API runs."""

    status: str = "ok"
    version: str


class Whoami(Model):
    """The key of the request."""

    key: str
    role: Role
    workspace: str | None = Field(description="None: every workspace.")
    deployments: list[str] | None = Field(default=None, description="None: all of the workspace.")
    cloud: str | None = None
    expires_at: float | None = None


class WorkspaceRequest(Model):
    """A workspace to create."""

    name: Name
    description: PlainText = ""


class Decisions(Model):
    """Decisions about a deployment, and the current one of its scaling law."""

    items: list[JournalEntry]
    now: JournalEntry | None = Field(default=None, description="None: its number of replicas is fixed.")


class ScalingChange(Model):
    """Changes of a deployment's scaling; fields that are left out stay as they are."""

    min: int | None = Field(default=None, ge=0, le=1000)
    max: int | None = Field(default=None, ge=0, le=1000)
    floors: tuple[Floor, ...] | None = Field(default=None, max_length=16)
    keep_alive_s: float | None = Field(default=None, ge=1, le=86_400, description="null: learnt from traffic.")
    hold_s: float | None = Field(default=None, gt=0, le=600)

    def of(self, current: Scaling) -> Scaling:
        """`current` with the given fields replaced. Raises `ValueError` when the result is not valid."""
        return Scaling.model_validate(current.model_dump() | self.model_dump(exclude_unset=True))


class UndoRequest(Model):
    """The revision to go back to."""

    revision: int | None = Field(default=None, ge=1, le=2**31 - 1, description="None: the one before.")


class KeyRequest(Model):
    """A key to create, with at most the rights of the key that creates it."""

    name: Name
    role: Role
    deployments: tuple[Name, ...] | None = Field(
        default=None, min_length=1, max_length=100, description="None: all of the workspace."
    )
    priority: Priority = Field(default=Priority.NORMAL, description="Higher ones go first under overload.")
    expires_at: float | None = Field(default=None, gt=0, lt=1e11, description="Epoch seconds; None: never.")
    cloud: Name | None = Field(default=None, description="For agents: their cloud.")
    everywhere: bool = Field(default=False, description="In every workspace; for admins and agents only.")

    @model_validator(mode="after")
    def _fitting(self) -> KeyRequest:
        if (self.role is Role.AGENT) != (self.cloud is not None):
            raise ValueError("cloud is required for the role agent, and for no other")
        if self.everywhere and self.role is not Role.ADMIN:
            raise ValueError("everywhere needs the role admin")
        if self.role is Role.AGENT and self.deployments is not None:
            raise ValueError("a key of the role agent cannot be limited to deployments")
        return self


class KeyMade(KeyView):
    """A new key with its text, which is shown only once."""

    key: str


class SecretRequest(Model):
    """A secret's value."""

    value: SecretStr = Field(max_length=65_536)


class Push(Model):
    """A version of a dataset that is being uploaded."""

    push: Digest = Field(description="Digest of the manifest, which names the push.")
    missing: list[tuple[int, int]] = Field(description="Files to send, as (first, count) in the manifest's order.")
    missing_bytes: int = Field(ge=0)


class VersionRequest(Model):
    """A push whose files are all there."""

    push: Digest


class LabelRequest(Model):
    """The version that gets a label."""

    number: int = Field(ge=1, le=10**9 - 1)


class DatasetDifference(Model):
    """What a version has that another one has not; at most 1,000 files of each kind are listed."""

    added: tuple[DatasetFile, ...]
    removed: tuple[DatasetFile, ...]
    changed: tuple[DatasetFile, ...]
    added_count: int
    removed_count: int
    changed_count: int


class FilesVerified(Model):
    """Stored files that were read and compared with their digests."""

    files: int
    size_bytes: int
    damaged: tuple[DatasetFile, ...] = Field(description="Those that are missing, or have other content.")
