"""The replica as an ASGI app: everything that the fast path does not handle.

Calls that are large, chunked, pipelined or forms; streams, websockets, mounted apps, and the documents.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from kaon.errors import BadAnswer, KaonError, MethodNotAllowed, NotBegun
from kaon.runtime import cors, streaming
from kaon.runtime.answers import Answer, allowed, answer_to, interrupted, problem_answer, public_error
from kaon.runtime.asgi import AsgiScope, Message, Receive, Send, run_app
from kaon.runtime.bodies import pause_limited
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.inputs import arguments, cancel_on_disconnect, within_deadline
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
        self._checks = serving.checks

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, cors.readable(scope, send, self._checks.site))
        elif scope["type"] == "websocket":
            from kaon.runtime.sockets import serve_socket  # imports websockets and Starlette, when first needed

            await serve_socket(self._serving, scope, receive, send)

    async def _http(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        fields = dict(scope["headers"])
        request_id = self._checks.request_id(fields)
        began_at = time.monotonic()
        figures, name = self._serving.not_calls, ""
        try:
            document = _docs_page(scope) or cors.preflight(scope, fields, self._checks.site)
            if document is None:
                grant = self._checks.check(fields, scope.get("client"))
                document = self._openapi(scope) or self._options(scope)
            if document is None:
                figures = self._serving.others
                mounted = self._serving.mounts.find(scope["path"])
                if mounted is not None:
                    self._checks.refuse_poison(request_id)
                    await self._delegate(*mounted, request_id, grant, scope, receive, send)
                    return
                lane, names = self._serving.routes.find(scope["method"], path_of(scope))
                figures, name = lane.figures, lane.name
                if lane.spec.kind is EndpointKind.WEBSOCKET:
                    other = MethodNotAllowed("This path is a websocket.", hint="Connect with a WebSocket client.")
                    other.allow = self._serving.routes.verbs(path_of(scope))
                    raise other
                call = self._checks.call(lane, grant, fields, request_id)
                if lane.spec.kind is EndpointKind.STREAM:
                    assert isinstance(lane, HeldLane)
                    serve = streaming.serve_stream(
                        lane, call, names, scope, fields, receive, send, self._serving.long_calls, self._checks.closing
                    )
                    await in_context(call.context(), serve)
                    return
                document = await self._call(lane, call, names, scope, fields, receive)
        except BaseException as error:
            if interrupted(error):
                raise
            if isinstance(error, NotBegun) and figures is self._serving.not_calls:
                figures = self._serving.others
            protocol = self._serving.protocol_of(path_of(scope))
            problem = problem_answer(public_error(error, name, request_id), request_id, fields, protocol)
            document = self._serving.described(problem)
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
            unfit = BadAnswer(f"The answer's head is invalid: {error}.")
            answer = problem_answer(public_error(unfit, "", request_id), request_id)
            headers = answer.all_headers(request_id)
        if self._checks.closing:
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
        call.arguments = await within_deadline(call, arguments(lane, names, scope, fields, pause_limited(receive)))
        ended = asyncio.Event()
        call.on_end = lambda _: ended.set()
        call.began_at = time.monotonic()
        lane.enter(call)
        if not call.ended:
            watch = asyncio.create_task(cancel_on_disconnect(call, receive))
            try:
                await ended.wait()
            finally:
                watch.cancel()
                call.cancel()  # in case this task was cancelled
        if call.error is not None:
            error = public_error(call.error, lane.name, call.request_id)  # not raised: calls of a batch may share it
            return problem_answer(error, call.request_id, fields, lane.spec.protocol)
        return answer_to(lane.signature, call.arguments, call.value)

    def _openapi(self, scope: AsgiScope) -> Answer | None:
        """The deployment's description, for admitted callers."""
        if scope["method"] in ("GET", "HEAD") and scope["path"] == "/openapi.json":
            return Answer(200, _JSON, self._serving.openapi(), (self._serving.description,))
        return None

    def _options(self, scope: AsgiScope) -> Answer | None:
        """The methods of an endpoint's path."""
        verbs = self._serving.routes.verbs(path_of(scope)) if scope["method"] == "OPTIONS" else ()
        return Answer(200, _JSON, b"", (allowed(verbs),)) if verbs else None

    async def _delegate(
        self, at: str, app: Any, request_id: str, grant: Grant, scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        """Run a mounted app, counted as in flight until it ends."""
        began_at, inner = time.monotonic(), self._serving.mounts.scope(at, app, scope)
        self._serving.enter_mount()
        request = _MountedRequest(
            scope.get("extensions", {}).get(CHUNKS), send, self._serving.loop, closing=self._checks.closing
        )
        flight = self._serving.flights.begin(request_id, began_at + UNLIMITED_S)
        try:
            with self._serving.long_calls.held(grant, request.end):
                running = run_app(app, inner, receive, request.send)
                await in_context(self._serving.new_context(), running)
        except BaseException as error:
            if interrupted(error) and not request.stopped:
                raise
            problem = public_error(request.ended or error, at, request_id)
            if request.code:
                request.cut()
            else:
                answer = problem_answer(problem, request_id, dict(scope["headers"]))
                request.code = answer.status
                await send(
                    {"type": "http.response.start", "status": answer.status, "headers": answer.all_headers(request_id)}
                )
                await send({"type": "http.response.body", "body": answer.body})
        finally:
            self._serving.flights.end(flight)
            request.close()
            self._serving.in_mounts -= 1
            self._serving.others.answered(request.code or 500, time.monotonic() - began_at)


class _MountedRequest:
    """A request to a mounted app: its response so far, and its early end."""

    def __init__(self, chunks: Chunks | None, send: Send, loop: asyncio.AbstractEventLoop, *, closing: bool) -> None:
        self.code = 0
        """The status of the app's response; 0: not yet."""
        self.ended: KaonError | None = None
        """Why the request was ended."""
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
        """The caller's key is no longer valid."""
        if not self._answered:
            self.ended = error
            if self.code:
                self.cut()
            self._stop()

    def cut(self) -> None:
        """Close the connection."""
        if self._chunks is not None:
            self._chunks.cut()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._chunks is not None:
            self._chunks.on_lost = None

    def _lost(self) -> None:
        """The caller disconnected. After its response an app may go on."""
        if not self._answered:
            self._timer = self._loop.call_later(GONE_S, self._stop)

    def _stop(self) -> None:
        self.stopped = True
        self._task.cancel()


def _docs_page(scope: AsgiScope) -> Answer | None:
    """The docs page, without a key: a browser cannot send one with a typed address.

    The page is the same for every service, and asks for the key before it reads the description.
    """
    if scope["method"] not in ("GET", "HEAD") or scope["path"] != "/docs":
        return None
    page = docs_page()
    headers = {name.encode(): text.encode() for name, text in page.headers}
    return Answer(200, headers.pop(b"content-type"), page.html, tuple(headers.items()))
