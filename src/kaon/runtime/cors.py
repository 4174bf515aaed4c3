"""Cross-origin requests to a replica that is reached without an edge, as in `kaon dev`.

Behind an edge the edge answers them, for the origins that a deployment allows. Here pages of this machine may call,
whatever their port: a frontend's development server is such a page.
"""

from __future__ import annotations

from kaon.runtime.answers import Answer
from kaon.runtime.asgi import AsgiScope, Message, Send
from kaon.runtime.site import Site
from kaon.types.cors import EXPOSED, MAX_AGE_S, METHODS, SENT

_PREFLIGHT = (
    (b"access-control-allow-methods", METHODS.encode()),
    (b"access-control-allow-headers", SENT.encode()),
    (b"access-control-max-age", str(MAX_AGE_S).encode()),
)


def preflight(scope: AsgiScope, fields: dict[bytes, bytes], site: Site | None) -> Answer | None:
    """The answer to a browser that asks whether a page may call; None for every other request. Raises Forbidden."""
    if site is None or scope["method"] != "OPTIONS" or not _asks(fields):
        return None
    site.check(fields)
    return Answer(200, b"application/json", b"", _PREFLIGHT)


def readable(scope: AsgiScope, send: Send, site: Site | None) -> Send:
    """`send`, so that the page that called may read the answer, if it is one of those that may call."""
    origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
    if site is None or origin is None or not site.is_local(origin):
        return send
    added = {
        b"access-control-allow-origin": origin,
        b"access-control-expose-headers": EXPOSED.encode(),
        b"access-control-allow-credentials": b"",
    }

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in added]
            new = [(name, value) for name, value in added.items() if value]
            message = {**message, "headers": [*own, *new, (b"vary", b"origin")]}
        await send(message)

    return with_headers


def _asks(fields: dict[bytes, bytes]) -> bool:
    return b"origin" in fields and b"access-control-request-method" in fields
