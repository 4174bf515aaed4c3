"""The replica as an ASGI app: all that the fast path leaves to it.

Plain calls that are large, chunked, pipelined or forms; streams, websockets, mounted apps, and the documents. The
checks are the door's, the work is the lanes'; here are only the ways in and out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from kaon.errors import MethodNotAllowed
from kaon.runtime import streaming
from kaon.runtime.answers import Answer, allowed, known, refusal
from kaon.runtime.asgi import Message, Receive, Scope, Send, run_app
from kaon.runtime.call import Call
from kaon.runtime.figures import Figures
from kaon.runtime.inputs import arguments, cancel_when_gone, in_time
from kaon.runtime.lane import HeldLane, Lane
from kaon.runtime.serving import Serving
from kaon.sdk.docs_page import docs_page
from kaon.types.flight import UNLIMITED_S
from kaon.types.service import EndpointKind

_JSON = b"application/json"


class App:
    """ASGI 3."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._door = serving.door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            from kaon.runtime.sockets import serve_socket  # with websockets and Starlette's parts, when first needed

            await serve_socket(self._serving, scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = dict(scope["headers"])
        request_id = self._door.request_id(fields)
        began_at = time.monotonic()
        figures, name = self._serving.others, ""
        try:
            document = _docs_page(scope)
            if document is None:
                grant = self._door.check(fields)
                document = self._openapi(scope) or self._options(scope)
            if document is None:
                mounted = self._serving.mounted(scope["path"])
                if mounted is not None:
                    self._door.screen(request_id)
                    await self._delegate(*mounted, request_id, scope, receive, send)
                    return
                lane, names = self._serving.routes.find(scope["method"], scope["path"])
                figures, name = lane.figures, lane.name
                if lane.spec.kind is EndpointKind.WEBSOCKET:
                    raise MethodNotAllowed("This path is a websocket.", hint="Connect with a WebSocket client.")
                call = self._door.call(lane, grant, fields, request_id)
                if lane.spec.kind is EndpointKind.STREAM:
                    assert isinstance(lane, HeldLane)
                    serve = streaming.serve_stream(lane, call, names, scope, fields, receive, send, self._door.closing)
                    await asyncio.create_task(serve, context=call.context())
                    return
                document = await self._call(lane, call, names, scope, fields, receive)
        except Exception as error:
            document = refusal(known(error, name, request_id), request_id, fields)
        if self._serving.sampler is not None and name:
            self._serving.keep(request_id, name, document.status, document.media_type.decode(), document.body)
        await self._answer(document, request_id, figures, began_at, send)

    async def _answer(self, answer: Answer, request_id: str, figures: Figures, began_at: float, send: Send) -> None:
        headers = answer.all_headers(request_id)
        if self._door.closing:
            headers.append((b"connection", b"close"))
        figures.answered(answer.status, time.monotonic() - began_at)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _call(
        self,
        lane: Lane,
        call: Call,
        names: Mapping[str, str],
        scope: Scope,
        fields: dict[bytes, bytes],
        receive: Receive,
    ) -> Answer:
        call.arguments = await in_time(call, arguments(lane, names, scope, fields, receive))
        ended = asyncio.Event()
        call.on_end = lambda _: ended.set()
        call.began_at = time.monotonic()
        lane.enter(call)
        if not call.ended:
            watch = asyncio.create_task(cancel_when_gone(call, receive))
            try:
                await ended.wait()
            finally:
                watch.cancel()
                call.cancel()  # when this task itself was cancelled; else the call has ended
        if call.error is not None:
            raise call.error
        media_type, body = lane.signature.to_body(call.value)
        return Answer(200, media_type.encode(), body)

    def _openapi(self, scope: Scope) -> Answer | None:
        """The deployment's description, for callers that were let in."""
        if scope["method"] in ("GET", "HEAD") and scope["path"] == "/openapi.json":
            return Answer(200, _JSON, self._serving.openapi())
        return None

    def _options(self, scope: Scope) -> Answer | None:
        """What may be done at an endpoint's path."""
        verbs = self._serving.routes.verbs(scope["path"]) if scope["method"] == "OPTIONS" else ()
        return Answer(200, _JSON, b"", (allowed(verbs),)) if verbs else None

    async def _delegate(
        self, prefix: str, app: Any, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let a mounted app answer, counted as in flight until it has."""
        began_at, code = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                if self._door.closing:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        self._serving.elsewhere += 1
        flight = self._serving.flights.begin(request_id, began_at + UNLIMITED_S)
        try:
            within = {**scope, "root_path": scope.get("root_path", "") + prefix}
            await asyncio.create_task(run_app(app, within, receive, noting), context=self._serving.new_context())
        finally:
            self._serving.flights.end(flight)
            self._serving.elsewhere -= 1
            self._serving.others.answered(code, time.monotonic() - began_at)


def _docs_page(scope: Scope) -> Answer | None:
    """The docs page, for everybody: a browser cannot send a key with an address that is typed.

    It is the same for every service and says nothing of this one; it asks for the key itself.
    """
    if scope["method"] not in ("GET", "HEAD") or scope["path"] != "/docs":
        return None
    page = docs_page()
    headers = {name.encode(): text.encode() for name, text in page.headers}
    return Answer(200, headers.pop(b"content-type"), page.html, tuple(headers.items()))
