"""Serving a websocket endpoint: same door, same slots; in flight until the talk ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from kaon.errors import KaonError, NotFound
from kaon.runtime.answers import known, refusal
from kaon.runtime.asgi import Receive, Scope, Send, run_app
from kaon.runtime.inputs import query_pairs
from kaon.runtime.lane import HeldLane
from kaon.runtime.serving import Serving
from kaon.runtime.streaming import begin
from kaon.types.flight import UNLIMITED_S

_log = logging.getLogger("kaon.runtime")
_GOING_AWAY, _INTERNAL, _POLICY = 1001, 1011, 1008


async def serve_socket(serving: Serving, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the handler talk, or refuse the handshake with a problem document."""
    fields = dict(scope["headers"])
    request_id = serving.door.request_id(fields)
    try:
        grant = serving.door.check(fields)
        mounted = serving.mounted(scope["path"])
        if mounted is not None:
            serving.door.screen(request_id)
            await _delegate(serving, *mounted, request_id, scope, receive, send)
            return
        lane, names = serving.routes.find("GET", scope["path"])
        if not isinstance(lane, HeldLane) or lane.signature.socket is None:
            raise NotFound(
                "There is no websocket at this path.", hint="The deployment's /docs page lists what there is."
            )
        call = serving.door.call(lane, grant, fields, request_id)
        call.arguments = lane.signature.from_query(query_pairs(scope["query_string"]), names)
        await begin(lane, call)
    except KaonError as error:
        await _refuse(error, request_id, scope, send)
        serving.others.answered(error.status, 0.0)
        return
    began_at = time.monotonic()
    socket = WebSocket(scope, receive, send)
    code = 101
    try:
        handling = lane.handler(**{lane.signature.socket: socket}, **call.arguments)
        await asyncio.create_task(handling, context=call.context())
        await _close(socket, 1000)
    except WebSocketDisconnect:
        pass
    except asyncio.CancelledError:
        await _close(socket, _GOING_AWAY)
        if call.error is None:
            raise
    except Exception as error:
        code = known(error, lane.name, request_id).status
        await _close(socket, _INTERNAL)
    finally:
        call.end(None)
        lane.release(began_at)
        lane.figures.answered(code, time.monotonic() - call.entered_at)


async def _delegate(
    serving: Serving, prefix: str, app: Any, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Let a mounted app talk, counted as in flight until it has."""
    serving.elsewhere += 1
    flight = serving.flights.begin(request_id, time.monotonic() + UNLIMITED_S)
    try:
        within = {**scope, "root_path": scope.get("root_path", "") + prefix}
        await asyncio.create_task(run_app(app, within, receive, send), context=serving.new_context())
    finally:
        serving.flights.end(flight)
        serving.elsewhere -= 1


async def _close(socket: WebSocket, code: int) -> None:
    if socket.application_state is not WebSocketState.DISCONNECTED and (
        socket.client_state is not WebSocketState.DISCONNECTED
    ):
        try:
            await socket.close(code)
        except (RuntimeError, OSError):
            _log.debug("the websocket was gone before it was closed")


async def _refuse(error: KaonError, request_id: str, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _POLICY, "reason": error.code})
        return
    answer = refusal(error, request_id)
    headers = answer.all_headers(request_id)
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
