"""What applies to every response: request id, allowed host, own origin, strict headers, no internals.

It is the outermost layer, so that every failure below becomes a problem document.
"""

from __future__ import annotations

import re
import traceback
import uuid
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaon import log
from kaon.api.authorizer import over_socket
from kaon.api.problems import problem_response
from kaon.context import REQUEST_ID_HEADER, request_id
from kaon.errors import Forbidden, InvalidInput, KaonError
from kaon.settings import Settings
from kaon.types.hosts import host_of

SOCKET_HOST = "kaon.local"
"""The host that the command line sends over the unix socket."""

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LOG = log.get("api")


class ResponseGuard:
    """ASGI middleware around the whole API."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = frozenset(host_of(host) for host in settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        identity = _identity(headers)
        answer = _Answer(send, identity)
        token = request_id.set(identity)
        try:
            self._check(scope, headers)
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:
            await self._fail(error, scope, receive, answer)
        finally:
            request_id.reset(token)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if not isinstance(error, KaonError):
            # The text of an exception may hold what was sent, so only its type and places are kept.
            places = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-12:]]
            _LOG.error("failed", request_id=request_id.get(), error=type(error).__name__, places=places)
            error = KaonError(hint="Find the request id in server/server.log under KAON_HOME.")
        if not answer.started:
            await problem_response(error)(scope, receive, answer)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise InvalidInput("The request must have exactly one Host header.")
        try:
            name = host_of(hosts[0])
        except ValueError:
            name = ""
        local = name == SOCKET_HOST and over_socket(scope) and "x-forwarded-for" not in headers
        if name not in self._hosts and not local:
            raise Forbidden(
                "The API does not answer under this host name.",
                hint="The operator sets the names in KAON_ALLOWED_HOSTS.",
            )
        for origin in headers.getlist("origin"):
            if urlsplit(origin).netloc.lower() != hosts[0].lower():
                raise Forbidden("Pages of another origin may not call the API.")


class _Answer:
    """Sends a response with the common headers; knows whether it has started."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers: Any = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers[REQUEST_ID_HEADER] = self._identity
        await self._send(message)


def _identity(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
