"""The envelope that every kind of resource shares; the kinds themselves are declared in `kaon.types.kinds`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from kaon.types.artifact import ArtifactSpec, ArtifactStatus
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.dataset import DatasetSpec, DatasetStatus, DatasetVersionSpec, DatasetVersionStatus
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, RevisionSpec, RevisionStatus
from kaon.types.job import JobSpec, JobStatus
from kaon.types.key import KeySpec, KeyStatus
from kaon.types.model import Model
from kaon.types.plan import PlanPartSpec, PlanPartStatus, PlanSpec, PlanStatus
from kaon.types.secret import SecretSpec, SecretStatus
from kaon.types.workspace import WorkspaceSpec, WorkspaceStatus

SpecT = TypeVar("SpecT", bound=BaseModel)
StatusT = TypeVar("StatusT", bound=BaseModel)


class Resource(Model, Generic[SpecT, StatusT]):
    """A stored resource: its desired state (`spec`) and its current one (`status`)."""

    kind: str
    workspace: str = Field(description="Empty for what belongs to no tenant: workspaces, clouds, plans.")
    name: str
    uid: str = Field(description="Unique for ever: a name used again has another.")
    version: int = Field(description="Grows with every change of any resource; used for compare-and-set.")
    generation: int = Field(description="Grows with every change of the spec.")
    created_at: float
    updated_at: float
    spec: SpecT
    status: StatusT


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A resource that is stored and cannot be read. It can be deleted like one that can."""

    kind: str
    workspace: str
    name: str
    reason: str
    uid: str = ""
    version: int = 0
    created_at: float = 0.0


Workspace = Resource[WorkspaceSpec, WorkspaceStatus]
Artifact = Resource[ArtifactSpec, ArtifactStatus]
Deployment = Resource[DeploymentSpec, DeploymentStatus]
Revision = Resource[RevisionSpec, RevisionStatus]
Key = Resource[KeySpec, KeyStatus]
Secret = Resource[SecretSpec, SecretStatus]
JobResource = Resource[JobSpec, JobStatus]
Cloud = Resource[CloudSpec, CloudStatus]
PlanResource = Resource[PlanSpec, PlanStatus]
PlanPartResource = Resource[PlanPartSpec, PlanPartStatus]
DatasetResource = Resource[DatasetSpec, DatasetStatus]
DatasetVersion = Resource[DatasetVersionSpec, DatasetVersionStatus]
