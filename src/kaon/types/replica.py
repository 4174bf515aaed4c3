"""A replica: one running copy of a revision."""

from __future__ import annotations

import hashlib

from pydantic import Field

from kaon.types.dataset import DatasetUse
from kaon.types.model import Address, Digest, EnvName, Model, Name, OpenEnum
from kaon.types.service import Resources


class Phase(OpenEnum, unknown="Starting"):
    """The state of a replica, as shown to users."""

    BUILDING = "Building"
    INSTALLING = "Installing"
    STARTING = "Starting"
    LOADING = "Loading"
    READY = "Ready"
    CRASHED = "Crashed"
    CONFIG_ERROR = "ConfigError"
    NO_CAPACITY = "NoCapacity"
    DRAINING = "Draining"
    COMPLETED = "Completed"
    """It ended with exit code 0 and is not started again."""
    UNKNOWN = "Unknown"
    """Its cloud is lost; its state is unknown."""


class WorkloadKind(OpenEnum, unknown="job"):
    """The kind of a workload."""

    SERVICE = "service"
    """It answers calls until it is stopped."""
    JOB = "job"
    """It does its work and ends, and takes no calls."""


class Restart(OpenEnum, unknown="never"):
    """Whether a replica that has ended by itself is started again."""

    ALWAYS = "always"
    NEVER = "never"


INSTALL_LIMIT_S = 1800.0
"""Time limit for preparing a replica's artifact and environment, in seconds."""


class ReplicaSpec(Model):
    """A replica that a plan requires."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(description="For people: deployment-revision-ordinal.")
    workspace: Name
    deployment: Name
    deployment_uid: str = Field(default="", pattern=r"^[a-z0-9-]{0,64}$", description="'': planned by an older Kaon.")
    revision: int = Field(ge=1)
    ordinal: int = Field(ge=0)
    artifact: Digest
    kind: WorkloadKind = WorkloadKind.SERVICE
    restart: Restart = Restart.ALWAYS
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: tuple[EnvName, ...] = Field(default=(), description="Variables whose values are secrets.")
    secrets_version: str = Field(
        default="", description="Secrets fetched under this version are up to date; empty: fetch them."
    )
    alone: bool = Field(
        default=False, description="Its state is in a folder: it starts when no other replica of the deployment runs."
    )
    datasets: tuple[DatasetUse, ...] = Field(default=(), description="Versions that it finds, by name.")
    resources: Resources = Resources()
    drain_s: float = 30.0
    start_s: float = Field(
        default=120.0, description="Time limit of its start; after it a replica that does not answer hangs."
    )


class ReplicaStatus(Model):
    """The state of a replica, as its agent observes it."""

    id: str
    name: str
    workspace: str
    deployment: str
    revision: int
    kind: WorkloadKind = WorkloadKind.SERVICE
    phase: Phase
    reason: str = ""
    since: float = Field(default=0, description="Epoch seconds at which the phase began.")
    started_at: float | None = None
    restarts: int = 0
    exit_code: int | None = Field(default=None, description="Of its last end; negative: ended by that signal.")
    last_lines: tuple[str, ...] = Field(default=(), description="Last lines of its log, kept when it ended badly.")
    address: Address | None = None
    pid: int | None = None


def replica_id(workspace: str, deployment_uid: str, revision: int, ordinal: int) -> str:
    """12 hex digits that identify one replica permanently."""
    text = f"{workspace}/{deployment_uid}/{revision}/{ordinal}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
