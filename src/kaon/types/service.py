"""What a build learns of a service by reading its class: endpoints, settings, needs."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from kaon.types.model import Model
from kaon.types.objective import Objective

MAX_BODY_BYTES = 64 * 2**20
"""The largest body of a request, unless its endpoint takes less."""
MAX_MESSAGE_BYTES = 32 * 2**20
"""The largest message of a websocket, unless its endpoint says otherwise."""


class Resources(Model):
    """What one replica may use. Memory is a hard limit; CPUs are a share and a thread count."""

    cpus: float = Field(default=1.0, gt=0, le=1024)
    memory_bytes: int | None = Field(default=None, ge=16 * 2**20, description="None: no limit.")
    gpus: int = Field(default=0, ge=0)


class Batch(Model):
    """How calls of an endpoint are gathered into one call of its handler."""

    max_size: int = Field(default=32, ge=1, description="Rows at most in one batch; a call may carry many rows.")
    max_wait_s: float = Field(
        default=0.0, ge=0, le=10, description="How long a batch may be held for others while idle; 0: never held."
    )
    latency_s: float | None = Field(
        default=None, gt=0, description="Target for the time in queue and handler; bounds the batch's size."
    )


class EndpointKind(StrEnum):
    """How an endpoint answers."""

    CALL = "call"
    STREAM = "stream"
    WEBSOCKET = "websocket"


class EndpointSpec(Model):
    """One method of a service, as its callers see it."""

    name: str
    method: str = Field(description="HTTP verb in capitals; GET for a websocket.")
    path: str = Field(description="Path below the deployment, begins with a slash; '/' is its root.")
    kind: EndpointKind = EndpointKind.CALL
    summary: str = ""
    idempotent: bool = Field(default=False, description="A second call changes nothing more than the first.")
    retry: bool = Field(
        default=False,
        description="May be sent to another replica when the first broke off while it had the call; idempotent only.",
    )
    timeout_s: float | None = 60.0
    concurrency: int | None = None
    hedge_s: float | None = Field(
        default=None, gt=0, description="Send an idempotent call to a second replica after so long; None: never."
    )
    batch: Batch | None = None
    strict: bool = Field(default=False, description="Query parameters that it does not know are refused.")
    max_body_bytes: int | None = Field(
        default=None, ge=1, le=MAX_BODY_BYTES, description="The largest body that it takes, also when unpacked."
    )
    media_type: str = Field(
        default="", description="Of a stream of bytes; empty: the endpoint is none, its items are events or lines."
    )
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES, ge=1, le=2**30, description="Of a websocket: the largest message that it takes."
    )


class SettingSpec(Model):
    """One parameter of the service's constructor, read from the environment."""

    name: str = Field(description="Name of the environment variable.")
    required: bool
    type: str = Field(default="str", description="The type as written, for people.")
    default: str | None = None


Loop = Literal["uvloop", "asyncio"]
"""Event loops that a class can ask for: the fast one, or the standard library's, which some libraries need to patch."""


class ServiceSpec(Model):
    """A service as its artifact's manifest describes it."""

    name: str
    entry: str = Field(description="'module:Class'.")
    summary: str = ""
    endpoints: tuple[EndpointSpec, ...] = ()
    mounts: tuple[str, ...] = Field(default=(), description="Paths at which ASGI apps are mounted.")
    settings: tuple[SettingSpec, ...] = ()
    resources: Resources = Resources()
    objective: Objective = Objective()
    loop: Loop = "uvloop"
    requirements: tuple[str, ...] = Field(default=(), description="As the class or project states them, unlocked.")
    openapi: dict[str, Any] = Field(default_factory=dict, description="OpenAPI 3.1 document.")
