"""API keys: opaque, 256 bits, shown once, kept as a hash; and what they allow."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from pydantic import Field

from kaon.types.model import Model, Name, OpenEnum
from kaon.types.versioned import Versioned

KEY_PREFIX = "kaon_"
IDENTITY_PREFIX = "identity-"
"""How the names of services' own keys begin, and of the secrets that hold their texts."""


class Role(StrEnum):
    """What a key may do. Each is a set of rights; see `RIGHTS`."""

    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    CALLER = "caller"
    AGENT = "agent"


class Priority(OpenEnum, unknown="normal"):
    """Whose calls go first when there is not enough for all."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Right(StrEnum):
    """One thing that a request may need."""

    READ = "read"
    WRITE = "write"
    CALL = "call"
    ADMIN = "admin"
    AGENT = "agent"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.ADMIN: frozenset({Right.READ, Right.WRITE, Right.CALL, Right.ADMIN}),
    Role.EDITOR: frozenset({Right.READ, Right.WRITE, Right.CALL}),
    Role.VIEWER: frozenset({Right.READ}),
    Role.CALLER: frozenset({Right.CALL}),
    Role.AGENT: frozenset({Right.AGENT}),
}


class KeySpec(Model):
    """A key as the store keeps it: never the key itself."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the key.")
    hint: str = Field(description="First characters, so that people can tell keys apart.")
    role: Role
    workspace: Name | None = Field(default=None, description="None: every workspace; for admins and agents only.")
    deployments: tuple[Name, ...] | None = Field(default=None, description="None: all of the workspace.")
    owner: str = Field(default="", description="Name of the key that made this one.")
    owner_uid: str = Field(default="", description="Its uid: a name used again is another key. Empty: the platform.")
    priority: Priority = Priority.NORMAL
    expires_at: float | None = None
    cloud: str | None = Field(default=None, description="For agents: the only cloud that it may speak for.")
    deployment_uid: str = Field(default="", description="Of a service's own key: its deployment; '': of an older Kaon.")


class KeyStatus(Model):
    """What happened to a key."""

    revoked_at: float | None = None


class Grant(Model):
    """One key that a replica accepts: what it needs to check a caller by itself."""

    hash: str
    key: str = Field(description="Name of the key, for logs and metrics.")
    priority: Priority = Priority.NORMAL
    expires_at: float | None = None


class Access(Versioned):
    """Who may call a deployment."""

    public: bool = False
    grants: tuple[Grant, ...] = ()


def identity_name(deployment: str, revision: int | None) -> str:
    """Name of the key, and of the secret with its text, by which a revision's services call others.

    None: the one that revisions share whose artifacts do not say what they use. A dot is in no other name.
    """
    return f"{IDENTITY_PREFIX}{deployment}" + ("" if revision is None else f".{revision}")


def identity_deployment(name: str) -> str | None:
    """The deployment that a key or secret of such a name belongs to; None: it is no service's own."""
    return name.removeprefix(IDENTITY_PREFIX).partition(".")[0] if name.startswith(IDENTITY_PREFIX) else None


def key_hash(key: str) -> str:
    """sha256 of a key, 64 hex digits. Keys are 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()
