"""API keys: opaque, 256 bits, shown once, stored as a hash; and their rights."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from pydantic import Field

from kaon.types.model import Model, Name, OpenEnum
from kaon.types.versioned import Versioned

KEY_PREFIX = "kaon_"
IDENTITY_PREFIX = "identity-"
"""Prefix of the names of services' and jobs' own keys, and of the secrets with their texts."""
_JOB_PREFIX = f"{IDENTITY_PREFIX}."


class Role(StrEnum):
    """The rights of a key, by name; see `RIGHTS`."""

    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    CALLER = "caller"
    AGENT = "agent"


class Priority(OpenEnum, unknown="normal"):
    """Whose calls go first when capacity is short."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Right(StrEnum):
    """A right that a request may require."""

    READ = "read"
    WRITE = "write"
    CALL = "call"
    ADMIN = "admin"
    AGENT = "agent"
    JOBS = "jobs"
    """See jobs."""
    SUBMIT = "submit"
    """Submit, cancel, retry and delete jobs."""


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.ADMIN: frozenset({Right.READ, Right.WRITE, Right.CALL, Right.ADMIN, Right.JOBS, Right.SUBMIT}),
    Role.EDITOR: frozenset({Right.READ, Right.WRITE, Right.CALL, Right.JOBS, Right.SUBMIT}),
    Role.VIEWER: frozenset({Right.READ, Right.JOBS}),
    Role.CALLER: frozenset({Right.CALL}),
    Role.AGENT: frozenset({Right.AGENT}),
}


class KeySpec(Model):
    """A key as it is stored: never the key itself."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the key.")
    hint: str = Field(description="First characters, to tell keys apart.")
    role: Role
    workspace: Name | None = Field(default=None, description="None: every workspace; for admins and agents only.")
    deployments: tuple[Name, ...] | None = Field(default=None, description="None: all of the workspace.")
    owner: str = Field(default="", description="Name of the key that created this one.")
    owner_uid: str = Field(default="", description="Its uid: a reused name is another key. Empty: the platform.")
    priority: Priority = Priority.NORMAL
    expires_at: float | None = None
    cloud: str | None = Field(default=None, description="For agents: the only cloud that it may report for.")
    deployment_uid: str = Field(
        default="", description="Of a service's own key: uid of its deployment; '': written by an older Kaon."
    )
    jobs: bool = Field(
        default=False, description="Of a service's or job's own key: it may submit jobs of its own artifact."
    )


class KeyStatus(Model):
    """Whether a key was revoked."""

    revoked_at: float | None = None


class Grant(Model):
    """One key that a replica accepts, as far as the replica needs it to check callers."""

    hash: str
    key: str = Field(description="Name of the key, for logs and metrics.")
    priority: Priority = Priority.NORMAL
    expires_at: float | None = None


class Access(Versioned):
    """Who may call a deployment."""

    public: bool = False
    grants: tuple[Grant, ...] = ()


def identity_name(deployment: str, revision: int | None) -> str:
    """Name of the key with which a revision's services call others, and of the secret with its text.

    None: the one shared by revisions whose artifacts do not declare what they use. No other name has a dot.
    """
    return f"{IDENTITY_PREFIX}{deployment}" + ("" if revision is None else f".{revision}")


def identity_deployment(name: str) -> str | None:
    """The deployment that a key or secret of this name belongs to; None: it is not a service's own."""
    if not name.startswith(IDENTITY_PREFIX) or name.startswith(_JOB_PREFIX):
        return None
    return name.removeprefix(IDENTITY_PREFIX).partition(".")[0]


def job_identity_name(job: str) -> str:
    """Name of a job's own key, and of the secret with its text."""
    return f"{_JOB_PREFIX}{job}"


def identity_job(name: str) -> str | None:
    """The job that a key or secret of this name belongs to; None: it is not a job's own."""
    return name.removeprefix(_JOB_PREFIX) if name.startswith(_JOB_PREFIX) else None


def key_hash(key: str) -> str:
    """sha256 of a key, 64 hex digits. Keys have 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()
