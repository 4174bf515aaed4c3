"""A replica: one running copy of a revision."""

from __future__ import annotations

import hashlib

from pydantic import Field

from kaon.types.model import Address, Digest, EnvName, Model, Name, OpenEnum
from kaon.types.service import Resources


class Phase(OpenEnum, unknown="Starting"):
    """Where a replica is in its life; also the word that people see."""

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
    """Its cloud is lost."""


class WorkloadKind(OpenEnum, unknown="job"):
    """What a workload is for."""

    SERVICE = "service"
    """It answers calls until it is stopped."""
    JOB = "job"
    """It does its work and ends; nobody calls it."""


class Restart(OpenEnum, unknown="never"):
    """Whether a replica that has ended by itself is started again."""

    ALWAYS = "always"
    NEVER = "never"


INSTALL_LIMIT_S = 1800.0
"""How long making a replica's artifact and environment ready may take, in seconds."""


class ReplicaSpec(Model):
    """A replica that must run, as a plan says it."""

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
    secrets: tuple[EnvName, ...] = Field(default=(), description="Variables whose values the control plane holds.")
    secrets_version: str = Field(
        default="", description="Whoever fetched them under this one need not ask again; empty: they are asked for."
    )
    resources: Resources = Resources()
    drain_s: float = 30.0
    start_s: float = Field(
        default=120.0, description="How long its start may take, before silence means that it hangs."
    )


class ReplicaStatus(Model):
    """What an agent sees of a replica."""

    id: str
    name: str
    workspace: str
    deployment: str
    revision: int
    phase: Phase
    reason: str = ""
    since: float = Field(default=0, description="Epoch seconds at which the phase began.")
    started_at: float | None = None
    restarts: int = 0
    exit_code: int | None = Field(default=None, description="Of the last end; negative: by that signal.")
    last_lines: tuple[str, ...] = Field(default=(), description="Last lines of its log, kept when it ended badly.")
    address: Address | None = None
    pid: int | None = None


def replica_id(workspace: str, deployment_uid: str, revision: int, ordinal: int) -> str:
    """12 hex digits that name one replica for good."""
    text = f"{workspace}/{deployment_uid}/{revision}/{ordinal}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
