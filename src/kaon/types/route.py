"""Routes: from paths and hosts to revisions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.model import Address, Model, Name

Hostname = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=253
    ),
]
"""A host name in lower case, without a port; no IP address, whose last part has no letter."""

Origin = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*|[a-z][a-z0-9+.-]{0,31}://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?)$", max_length=300
    ),
]
"""The origin of web pages as browsers send it, such as `https://app.example`; `*`: any."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=64)]

REVISION_HEADER = "x-kaon-revision"
"""A call with this header goes to that revision, whatever its share."""

COPY_REFUSED = "x-kaon-copy-refused"
"""Header of a replica's refusal of a call that is a second attempt (`ATTEMPT_HEADER` is above 1)."""
ATTEMPT_HEADER = "x-envoy-attempt-count"

NOT_BEGUN_HEADER = "x-kaon-not-begun"
"""A refusal with this header means that no work was begun: the edge may send the call to another replica."""

DESCRIPTION_HEADER = "x-kaon-description"
"""Header of a replica's `/openapi.json`, and of refusals of calls that do not fit it: names the document's version."""


PROTOCOL = "kaon"
"""The subprotocol that a websocket is answered with when the client offers it and the service has chosen none."""
KEY_PROTOCOL = "kaon.key."
"""How a subprotocol begins that holds the caller's key: browsers can send no header with a handshake."""

ORIGIN_ALLOWED = "x-kaon-origin-allowed"
"""The edge puts this header on handshakes of pages whose origin the deployment allows."""


class Backend(Model):
    """A revision and its share of a route's traffic. With a share of 0 only calls that name it reach it."""

    revision: int
    weight: int = Field(ge=0, le=100)


class Mirror(Model):
    """A revision that gets copies of a route's calls."""

    revision: int = Field(ge=1)
    percent: float = Field(gt=0, le=100)


class Route(Model):
    """All requests below `prefix` go to one deployment, with the prefix taken off."""

    workspace: Name
    deployment: Name
    prefix: str = Field(pattern=r"^/[a-z0-9~/-]+$")
    backends: tuple[Backend, ...] = ()
    retry_paths: tuple[str, ...] = Field(
        default=(),
        description="Paths below the prefix whose calls may be sent to another replica after a failure.",
    )
    stream_paths: tuple[str, ...] = Field(
        default=(), description="Paths below the prefix of long answers: with an idle timeout only."
    )
    timeout_s: float = Field(default=60.0, gt=0)
    hold_s: float = Field(
        default=0.0, ge=0, description="How long a call is held while no replica is ready; 0: refused at once."
    )
    mirror: Mirror | None = None
    hedges: dict[str, float] = Field(
        default_factory=dict,
        description="Path below the prefix -> seconds after which a call is sent to a second replica too.",
    )
    closed: bool = Field(default=False, description="A call without a key is refused by the edge itself.")
    cors_origins: tuple[Origin, ...] = Field(default=(), max_length=32, description="Origins whose pages may call.")
    cors_credentials: bool = Field(default=False, description="These pages may send and receive cookies.")
    cors_headers: tuple[HeaderName, ...] = Field(
        default=(), max_length=32, description="Headers that these pages may send and read beyond the usual ones."
    )
    hosts: tuple[Hostname, ...] = Field(
        default=(), max_length=16, description="Host names of its own, without the prefix."
    )
    sandbox: bool = Field(default=False, description="Browsers show answers without scripts and origin.")


class ReplicaEndpoint(Model):
    """One replica that a route's requests may go to now."""

    replica: str = Field(description="The replica's id.")
    revision: int = Field(ge=1)
    address: Address = Field(description="Its service socket.")
    control_address: Address | None = Field(
        default=None, description="Its control socket, for `/ready` checks of the edge; None: no checks."
    )


def prefix_of(workspace: str, deployment: str) -> str:
    """`/name` in the default workspace, `/~workspace/name` in others: the tilde keeps them apart."""
    return f"/{deployment}" if workspace == "default" else f"/~{workspace}/{deployment}"


def local_host(workspace: str, deployment: str) -> str:
    """The deployment's host name on this machine, which browsers take for the loopback address."""
    return f"{deployment}.localhost" if workspace == "default" else f"{deployment}.{workspace}.localhost"


RESERVED = frozenset({"api", "console", "docs", "health", "metrics"})
"""Names that no deployment can have, since the platform uses their paths."""
