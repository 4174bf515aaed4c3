"""The replica as an ASGI app: all that the fast path leaves to it.

Plain calls that are large, chunked, pipelined or forms; streams, websockets, mounted apps, and the documents. The
checks are the door's, the work is the lanes'; here are only the ways in and out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from kaon.errors import BadAnswer, KaonError, MethodNotAllowed
from kaon.runtime import cors, streaming
from kaon.runtime.answers import BODILESS, Answer, allowed, interrupted, known, refusal
from kaon.runtime.asgi import AsgiScope, Message, Receive, Send, run_app
from kaon.runtime.bodies import steady
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.inputs import arguments, cancel_when_gone, in_time
from kaon.runtime.lane import HeldLane, Lane
from kaon.runtime.mounts import GONE_S, check_head
from kaon.runtime.routes import path_of
from kaon.runtime.serving import Serving
from kaon.runtime.steps import in_context
from kaon.sdk.docs_page import docs_page
from kaon.types.flight import UNLIMITED_S
from kaon.types.headers import check
from kaon.types.key import Grant
from kaon.types.service import EndpointKind

_JSON = b"application/json"


class App:
    """ASGI 3."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._door = serving.door

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, cors.readable(scope, send, self._door.site))
        elif scope["type"] == "websocket":
            from kaon.runtime.sockets import serve_socket  # with websockets and Starlette's parts, when first needed

            await serve_socket(self._serving, scope, receive, send)

    async def _http(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        fields = dict(scope["headers"])
        request_id = self._door.request_id(fields)
        began_at = time.monotonic()
        figures, name = self._serving.others, ""
        try:
            document = _docs_page(scope) or cors.preflight(scope, fields, self._door.site)
            if document is None:
                grant = self._door.check(fields, scope.get("client"))
                document = self._openapi(scope) or self._options(scope)
            if document is None:
                mounted = self._serving.mounts.find(scope["path"])
                if mounted is not None:
                    self._door.screen(request_id)
                    await self._delegate(*mounted, request_id, grant, scope, receive, send)
                    return
                lane, names = self._serving.routes.find(scope["method"], path_of(scope))
                figures, name = lane.figures, lane.name
                if lane.spec.kind is EndpointKind.WEBSOCKET:
                    other = MethodNotAllowed("This path is a websocket.", hint="Connect with a WebSocket client.")
                    other.allow = self._serving.routes.verbs(path_of(scope))
                    raise other
                call = self._door.call(lane, grant, fields, request_id)
                if lane.spec.kind is EndpointKind.STREAM:
                    assert isinstance(lane, HeldLane)
                    serve = streaming.serve_stream(
                        lane, call, names, scope, fields, receive, send, self._serving.lasting, self._door.closing
                    )
                    await in_context(call.context(), serve)
                    return
                document = await self._call(lane, call, names, scope, fields, receive)
        except BaseException as error:
            if interrupted(error):
                raise
            document = refusal(known(error, name, request_id), request_id, fields)
        if self._serving.sampler is not None and name:
            self._serving.keep(request_id, name, document.status, document.media_type.decode(), document.body)
        await self._answer(document, request_id, figures, began_at, send)

    async def _answer(
        self, answer: Answer, request_id: str, figures: EndpointFigures, began_at: float, send: Send
    ) -> None:
        headers = answer.all_headers(request_id)
        try:
            check(headers)
        except ValueError as error:
            unfit = BadAnswer(f"The answer's head cannot be said: {error}.")
            answer = refusal(known(unfit, "", request_id), request_id)
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
        scope: AsgiScope,
        fields: dict[bytes, bytes],
        receive: Receive,
    ) -> Answer:
        call.arguments = await in_time(call, arguments(lane, names, scope, fields, steady(receive)))
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
            return refusal(known(call.error, lane.name, call.request_id), call.request_id, fields)
        media_type, body = lane.signature.to_body(call.value)
        head = call.arguments.get(lane.signature.response or "")
        if head is None:
            return Answer(200, media_type.encode(), body)
        is_bare = head.status_code in BODILESS
        return Answer(head.status_code, media_type.encode(), b"" if is_bare else body, head.fields())

    def _openapi(self, scope: AsgiScope) -> Answer | None:
        """The deployment's description, for callers that were let in."""
        if scope["method"] in ("GET", "HEAD") and scope["path"] == "/openapi.json":
            return Answer(200, _JSON, self._serving.openapi())
        return None

    def _options(self, scope: AsgiScope) -> Answer | None:
        """What may be done at an endpoint's path."""
        verbs = self._serving.routes.verbs(path_of(scope)) if scope["method"] == "OPTIONS" else ()
        return Answer(200, _JSON, b"", (allowed(verbs),)) if verbs else None

    async def _delegate(
        self, at: str, app: Any, request_id: str, grant: Grant, scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        """Let a mounted app answer, counted as in flight until it has."""
        visit = _Visit(scope.get("extensions", {}).get(CHUNKS), send, self._serving.loop, closing=self._door.closing)
        began_at, told = time.monotonic(), self._serving.mounts.scope(at, app, scope)
        self._serving.elsewhere += 1
        flight = self._serving.flights.begin(request_id, began_at + UNLIMITED_S)
        try:
            with self._serving.lasting.held(grant, visit.end):
                running = run_app(app, told, receive, visit.send)
                await in_context(self._serving.new_context(), running)
        except BaseException as error:
            if interrupted(error) and not visit.stopped:
                raise
            problem = known(visit.ended or error, at, request_id)
            if visit.code:
                visit.cut()
            else:
                answer = refusal(problem, request_id, dict(scope["headers"]))
                visit.code = answer.status
                await send(
                    {"type": "http.response.start", "status": answer.status, "headers": answer.all_headers(request_id)}
                )
                await send({"type": "http.response.body", "body": answer.body})
        finally:
            self._serving.flights.end(flight)
            visit.close()
            self._serving.elsewhere -= 1
            self._serving.others.answered(visit.code or 500, time.monotonic() - began_at)


class _Visit:
    """A request to a mounted app: what the app has answered so far, and what ends it early."""

    def __init__(self, chunks: Chunks | None, send: Send, loop: asyncio.AbstractEventLoop, *, closing: bool) -> None:
        self.code = 0
        """The status that the app answered; 0: nothing yet."""
        self.ended: KaonError | None = None
        """Why the caller may not have the rest."""
        self.stopped = False
        self._answered = False
        self._closing = closing
        self._chunks = chunks
        self._send = send
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if chunks is not None:
            chunks.on_lost = self._lost

    async def send(self, message: Message) -> None:
        """The app's `send`."""
        check_head(message)
        if message["type"] == "http.response.start":
            self.code = message["status"]
            if self._closing:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    def end(self, error: KaonError) -> None:
        """The caller's key is good no longer."""
        if not self._answered:
            self.ended = error
            if self.code:
                self.cut()
            self._stop()

    def cut(self) -> None:
        """Break the answer off."""
        if self._chunks is not None:
            self._chunks.cut()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._chunks is not None:
            self._chunks.on_lost = None

    def _lost(self) -> None:
        """The caller is gone. What an app does after its answer is its own affair."""
        if not self._answered:
            self._timer = self._loop.call_later(GONE_S, self._stop)

    def _stop(self) -> None:
        self.stopped = True
        self._task.cancel()


def _docs_page(scope: AsgiScope) -> Answer | None:
    """The docs page, for everybody: a browser cannot send a key with an address that is typed.

    It is the same for every service and says nothing of this one; it asks for the key itself.
    """
    if scope["method"] not in ("GET", "HEAD") or scope["path"] != "/docs":
        return None
    page = docs_page()
    headers = {name.encode(): text.encode() for name, text in page.headers}
    return Answer(200, headers.pop(b"content-type"), page.html, tuple(headers.items()))
