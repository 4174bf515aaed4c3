"""The description of a service that a build reads from its class: endpoints, settings, requirements.

It comes from uploads, and the platform acts on it for everybody. So each field has bounds here, where it enters:
counts, lengths, ranges and patterns.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from kaon.types.model import Model, Name
from kaon.types.objective import Objective

MAX_BODY_BYTES = 64 * 2**20
"""The largest body of a request, unless its endpoint has a lower limit."""
MAX_MESSAGE_BYTES = 32 * 2**20
"""The largest message of a websocket, unless its endpoint sets another limit."""
ENDPOINTS_MAX = 256
MOUNTS_MAX = 64
SETTINGS_MAX = 256
REQUIREMENTS_MAX = 1000
USES_MAX = 256
PATH_MAX = 512
TIMEOUT_MAX_S = 86_400.0
HEDGE_MIN_S = 0.001
_TEXT_MAX = 10_000

_SEGMENT = r"([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]{0,127}\})"
EndpointPath = Annotated[str, StringConstraints(pattern=rf"^(/|(/{_SEGMENT})+)$", max_length=PATH_MAX)]
"""A path below a deployment; `{name}` stands for one segment."""

MountPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)+$", max_length=PATH_MAX)]
"""A path below which an ASGI app answers."""

TimeoutSeconds = Annotated[float, Field(gt=0, le=TIMEOUT_MAX_S)]
"""A positive time of at most a day."""


def _finite(value: Any) -> Any:
    """Refuse infinities and NaN anywhere in a JSON document."""
    left = [value]
    while left:
        match left.pop():
            case dict() as found:
                left.extend(found.values())
            case list() | tuple() as found:
                left.extend(found)
            case float() as number if not math.isfinite(number):
                raise ValueError("a number in it is not finite")
    return value


class Resources(Model):
    """The resources of one replica. Memory is a hard limit; CPUs are a share and a thread count."""

    cpus: float = Field(default=1.0, gt=0, le=1024)
    memory_bytes: int | None = Field(default=None, ge=16 * 2**20, le=2**60, description="None: no limit.")
    gpus: int = Field(default=0, ge=0, le=1024)


class Batch(Model):
    """How calls of an endpoint are gathered into one call of its handler."""

    max_size: int = Field(
        default=32, ge=1, le=1_000_000, description="Rows at most in one batch; a call may carry many rows."
    )
    max_wait_s: float = Field(
        default=0.0, ge=0, le=10, description="How long a batch may be held for others while idle; 0: never held."
    )
    latency_s: float | None = Field(
        default=None,
        gt=0,
        le=TIMEOUT_MAX_S,
        description="Target for the time in queue and handler; bounds the batch's size.",
    )


class EndpointKind(StrEnum):
    """How an endpoint answers."""

    CALL = "call"
    STREAM = "stream"
    WEBSOCKET = "websocket"


WireProtocol = Literal["kaon", "openai"]
"""The form of errors and of streams: Kaon's own, or that of the OpenAI API."""


class EndpointSpec(Model):
    """One method of a service, as seen by callers."""

    name: str = Field(pattern=r"^[^\s/]{1,128}$", description="The method's name.")
    method: str = Field(pattern=r"^[A-Z]{1,16}$", description="HTTP verb in capitals; GET for a websocket.")
    path: EndpointPath = Field(description="Path below the deployment, begins with a slash; '/' is its root.")
    kind: EndpointKind = EndpointKind.CALL
    summary: str = Field(default="", max_length=_TEXT_MAX)
    idempotent: bool = Field(default=False, description="A second call changes nothing more than the first.")
    retry: bool = Field(
        default=False,
        description="May be sent to another replica when the first broke off while it had the call; idempotent only.",
    )
    timeout_s: TimeoutSeconds | None = Field(default=60.0, description="None: a call may last as long as it will.")
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000, description="None: the runtime decides.")
    hedge_s: float | None = Field(
        default=None,
        ge=HEDGE_MIN_S,
        le=TIMEOUT_MAX_S,
        description="Send an idempotent call to a second replica after so long; None: never.",
    )
    batch: Batch | None = None
    strict: bool = Field(default=False, description="Refuse unknown query parameters.")
    max_body_bytes: int | None = Field(
        default=None, ge=1, le=MAX_BODY_BYTES, description="The largest accepted body, also when unpacked."
    )
    media_type: str = Field(
        default="",
        pattern=r"^([!-~]+/[!-~][ -~]*)?$",
        max_length=255,
        description="Of a stream of bytes; empty: the endpoint is none, its items are events or lines.",
    )
    answers_once: bool = Field(default=False, description="Of a stream: a call may answer with one document instead.")
    protocol: WireProtocol = Field(default="kaon", description="The form of its errors and of its stream.")
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES, ge=1, le=2**30, description="Of a websocket: the largest accepted message."
    )


DATASET_TYPE = "Dataset"
"""The type of a setting that is a folder of files, mounted by the platform."""


class SettingSpec(Model):
    """One parameter of the service's constructor, read from the environment."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", description="Name of the environment variable.")
    required: bool
    type: str = Field(default="str", max_length=_TEXT_MAX, description="The type as written, for people.")
    default: str | None = Field(default=None, max_length=_TEXT_MAX)


EventLoopName = Literal["uvloop", "asyncio"]
"""Event loops that a class can choose: the fast one, or the standard library's, which some libraries need to patch."""


StateKind = Literal["", "disk", "database"]
"""What a service keeps: nothing; files in a folder of its own; or a database, by default in that folder."""
DATABASE_VARIABLE = "DATABASE_URL"


class ServiceSpec(Model):
    """A service as its artifact's manifest describes it."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,99}$")
    entry: str = Field(pattern=r"^[^\s:]+:[^\s:]+$", max_length=1000, description="'module:Class'.")
    summary: str = Field(default="", max_length=_TEXT_MAX)
    endpoints: tuple[EndpointSpec, ...] = Field(default=(), max_length=ENDPOINTS_MAX)
    mounts: tuple[MountPath, ...] = Field(
        default=(), max_length=MOUNTS_MAX, description="Paths at which ASGI apps are mounted."
    )
    settings: tuple[SettingSpec, ...] = Field(default=(), max_length=SETTINGS_MAX)
    resources: Resources = Resources()
    objective: Objective = Objective()
    loop: EventLoopName = "uvloop"
    state: StateKind = Field(
        default="", description="What it keeps: 'disk', 'database'; '': nothing. Of 'disk' at most one replica runs."
    )
    requirements: tuple[Annotated[str, StringConstraints(max_length=1000)], ...] = Field(
        default=(), max_length=REQUIREMENTS_MAX, description="As the class or project states them, unlocked."
    )
    uses: tuple[Name, ...] | None = Field(
        default=None,
        max_length=USES_MAX,
        description="Deployments of its workspace that it calls, no others; null: built by an older Kaon.",
    )
    openapi: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(
        default_factory=dict, description="OpenAPI 3.1 document."
    )


def runs_alone(service: ServiceSpec, variables: Collection[str]) -> bool:
    """Whether at most one replica may run at once: its state is in a folder of one machine. `variables`: those set."""
    return service.state == "disk" or (service.state == "database" and DATABASE_VARIABLE not in variables)
