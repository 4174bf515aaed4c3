"""What a browser may put into the handshake of a websocket, since a page can set no header of it.

The key comes as a subprotocol, `kaon.key.KEY`, beside `kaon`, which is the one that is answered unless the service has
chosen another: a browser closes a connection whose offer of subprotocols was not answered. Services see neither.

A browser asks no permission before it opens a websocket to another origin, and shows its messages to the page. So the
rule of cross-origin requests is applied here: pages of the deployment's own host may connect, and those whose origin
the deployment allows. The edge marks these by `ORIGIN_ALLOWED`. Programs that are no browsers send no `Origin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kaon.errors import Forbidden
from kaon.runtime.asgi import AsgiScope
from kaon.types.route import KEY_PROTOCOL, ORIGIN_ALLOWED, PROTOCOL

_AUTHORIZATION = b"authorization"
_PROTOCOLS = b"sec-websocket-protocol"
_ALLOWED = ORIGIN_ALLOWED.encode()
_USUAL_PORTS = {b"https": b":443", b"http": b":80"}


def with_key(fields: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The headers, with the key that is offered as a subprotocol in `authorization` where that is missing."""
    keys = [name for name in _split(fields.get(_PROTOCOLS, b"")) if name.startswith(KEY_PROTOCOL.encode())]
    if not keys or _AUTHORIZATION in fields:
        return dict(fields)
    return {**fields, _AUTHORIZATION: b"Bearer " + keys[0].removeprefix(KEY_PROTOCOL.encode())}


def check_origin(fields: Mapping[bytes, bytes]) -> None:
    """Raises Forbidden for a page of another origin that the deployment does not allow."""
    origin = fields.get(b"origin")
    if origin is None or _ALLOWED in fields:
        return
    scheme, _, host = origin.lower().partition(b"://")
    own = {fields.get(name, b"").lower() for name in (b"host", b"x-forwarded-host")}
    if host not in {name.removesuffix(_USUAL_PORTS.get(scheme, b"")) for name in own} - {b""}:
        shown = origin[:80].decode("latin-1")
        raise Forbidden(
            f"Pages of {shown!r} may not open websockets here.",
            hint="Allow the origin: kaon set NAME 'cors.origins=[\"https://app.example\"]'",
        )


def answered_protocol(protocols: Sequence[str]) -> str | None:
    """The subprotocol to answer for a service that has chosen none."""
    return PROTOCOL if PROTOCOL in protocols else None


def without_key(scope: AsgiScope) -> AsgiScope:
    """The scope as the service sees it: without the platform's own subprotocols."""
    left = [name for name in scope["subprotocols"] if name != PROTOCOL and not name.startswith(KEY_PROTOCOL)]
    headers = [(name, value) for name, value in scope["headers"] if name != _PROTOCOLS]
    if left:
        headers.append((_PROTOCOLS, ", ".join(left).encode("latin-1")))
    return {**scope, "subprotocols": left, "headers": headers}


def _split(protocols: bytes) -> list[bytes]:
    return [name.strip() for name in protocols.split(b",")]
