"""Serving a websocket endpoint, with the same checks and slots as a call; in flight until the connection closes.

When the caller disconnects, `receive` reports it to the handler, which is cancelled if it runs for `GONE_S` after that.
When the key becomes invalid, the connection is closed at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from kaon.errors import KaonError, NotBegun, NotFound
from kaon.runtime.answers import interrupted, problem_answer, public_error
from kaon.runtime.asgi import AsgiScope, Message, Receive, Send, run_app
from kaon.runtime.call import Call
from kaon.runtime.handshake import answered_protocol, with_key, without_key
from kaon.runtime.inputs import query_pairs
from kaon.runtime.lane import HeldLane
from kaon.runtime.mounts import GONE_S, check_head
from kaon.runtime.routes import path_of
from kaon.runtime.serving import Serving
from kaon.runtime.socket_protocol import CONNECTION, SocketProtocol
from kaon.runtime.steps import in_context
from kaon.runtime.streaming import begin
from kaon.types.flight import UNLIMITED_S
from kaon.types.key import Grant

_log = logging.getLogger("kaon.runtime")
_GOING_AWAY, _INTERNAL, _POLICY = 1001, 1011, 1008
_CLOSE_S = 1.0
"""How long sending the close frame may take."""
_LONGEST_REASON = 120


async def serve_socket(serving: Serving, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Run the handler, or refuse the handshake with a problem document."""
    protocols = scope["subprotocols"]
    fields = with_key(dict(scope["headers"]) | {b"sec-websocket-protocol": ", ".join(protocols).encode("latin-1")})
    request_id = serving.checks.request_id(fields)
    scope, send = without_key(scope), _checked(send, answered_protocol(protocols))
    figures = serving.not_calls
    try:
        grant = serving.checks.check_handshake(fields, scope.get("client"))
        figures = serving.others
        serving.checks.refuse_poison(request_id)
        mounted = serving.mounts.find(scope["path"])
        if mounted is not None:
            serving.enter_mount()
        socket_call = None if mounted else _socket_call(serving, grant, fields, request_id, scope, receive, send)
    except KaonError as error:
        await _refuse(error, request_id, scope, send)
        (serving.others if isinstance(error, NotBegun) else figures).answered(error.status, 0.0)
        return
    if socket_call is not None:
        await socket_call.run()
    elif mounted is not None:
        await _delegate(serving, *mounted, request_id, grant, scope, receive, send)


def _socket_call(
    serving: Serving,
    grant: Grant,
    fields: dict[bytes, bytes],
    request_id: str,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
) -> _SocketCall:
    """The call of the endpoint at the request's path. Raises KaonError."""
    lane, names = serving.routes.find("GET", path_of(scope))
    if not isinstance(lane, HeldLane) or lane.signature.socket is None:
        raise NotFound("There is no websocket at this path.", hint="See the endpoints on the deployment's /docs page.")
    call = serving.checks.call(lane, grant, fields, request_id)
    call.arguments = lane.signature.from_query(query_pairs(scope["query_string"]), names)
    return _SocketCall(serving, lane, call, scope, receive, send)


class _SocketCall:
    """One websocket of an endpoint."""

    def __init__(
        self, serving: Serving, lane: HeldLane, call: Call, scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        self._serving = serving
        self._lane = lane
        self._call = call
        self._scope = scope
        self._send = send
        self._connection: SocketProtocol | None = scope["extensions"].get(CONNECTION)
        self._socket = WebSocket(scope, receive, send)
        self._begun = False
        self._closing: asyncio.Task[None] | None = None
        self._stopping: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        call, lane = self._call, self._lane
        if self._connection is not None:
            self._connection.on_lost = self._lost
        code = 101
        try:
            with self._serving.long_calls.held(call.grant, self._end):
                await begin(lane, call)
                self._begun = True
                assert lane.signature.socket is not None
                handling = lane.handler(**{lane.signature.socket: self._socket}, **call.arguments)
                await in_context(call.context(), handling)
            await self._close(1000)
        except WebSocketDisconnect:
            pass
        except BaseException as error:
            gave_up = call.error if isinstance(error, asyncio.CancelledError) else None
            if gave_up is None and interrupted(error):
                await self._close(_GOING_AWAY)
                raise
            code = await self._fail(gave_up, error)
        finally:
            if self._stopping is not None:
                self._stopping.cancel()
            call.end(None)
            call.free()
            lane.figures.answered(code, time.monotonic() - call.entered_at)

    async def _fail(self, gave_up: BaseException | None, error: BaseException) -> int:
        """Report the error by a problem document, or after the handshake by a close frame. Returns the status."""
        problem = public_error(gave_up or error, self._lane.name, self._call.request_id)
        if self._socket.application_state is WebSocketState.CONNECTING:
            await _refuse(problem, self._call.request_id, self._scope, self._send)
        else:
            await self._close(_INTERNAL if gave_up is None else _code(problem), problem.cause)
        return 101 if gave_up is not None and self._begun else problem.status

    def _lost(self) -> None:
        """The caller disconnected."""
        if self._begun:
            self._stopping = self._serving.loop.call_later(GONE_S, self._call.cancel)
        else:
            self._call.cancel()

    def _end(self, error: KaonError) -> None:
        """The caller's key is no longer valid."""
        if self._socket.application_state is WebSocketState.CONNECTED:
            self._closing = asyncio.create_task(self._close(_POLICY, error.cause))
        self._call.give_up(error)

    async def _close(self, code: int, reason: str = "") -> None:
        socket = self._socket
        if WebSocketState.DISCONNECTED in (socket.application_state, socket.client_state):
            return
        try:
            async with asyncio.timeout(_CLOSE_S):
                await socket.close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))
        except TimeoutError:
            if self._connection is not None:
                self._connection.abort()
        except (RuntimeError, OSError, WebSocketDisconnect):
            _log.debug("the websocket was already closed")


def _code(error: KaonError) -> int:
    return _POLICY if error.status in (401, 403) else _GOING_AWAY


def _checked(send: Send, protocol: str | None) -> Send:
    """`send` for messages of a service's code; `protocol` is the subprotocol that is answered if it names none."""

    async def checked(message: Message) -> None:
        check_head(message)
        if protocol and message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": protocol}
        await send(message)

    return checked


async def _delegate(
    serving: Serving, at: str, app: Any, request_id: str, grant: Grant, scope: AsgiScope, receive: Receive, send: Send
) -> None:
    """Run a mounted app's websocket, which has been counted as in flight, until it ends."""
    connection: SocketProtocol | None = scope["extensions"].get(CONNECTION)
    task = asyncio.current_task()
    assert task is not None
    stopping: list[asyncio.TimerHandle] = []
    revoked = False

    def end(_: KaonError) -> None:
        nonlocal revoked
        revoked = True
        if connection is not None:
            connection.fail(_POLICY, "the key was revoked or has expired")
        task.cancel()

    if connection is not None:
        connection.on_lost = lambda: stopping.append(serving.loop.call_later(GONE_S, task.cancel))
    flight = serving.flights.begin(request_id, time.monotonic() + UNLIMITED_S)
    try:
        with serving.long_calls.held(grant, end):
            running = run_app(app, serving.mounts.scope(at, app, scope), receive, send)
            await in_context(serving.new_context(), running)
    except asyncio.CancelledError:
        if not revoked and (connection is None or not connection.disconnected):
            raise
    finally:
        serving.flights.end(flight)
        serving.in_mounts -= 1
        for timer in stopping:
            timer.cancel()


async def _refuse(error: KaonError, request_id: str, scope: AsgiScope, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _POLICY, "reason": error.code})
        return
    answer = problem_answer(error, request_id)
    headers = answer.all_headers(request_id)
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
