"""Serving a generator endpoint over ASGI: from its first item to its last, its failure, or its caller's leaving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from contextvars import copy_context
from typing import Any

from kaon import context
from kaon.runtime import stream
from kaon.runtime.answers import known, refusal
from kaon.runtime.asgi import Receive, Scope, Send
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.inputs import arguments, cancel_when_gone, in_time
from kaon.runtime.lane import HeldLane


async def serve_stream(
    lane: HeldLane,
    call: Call,
    names: Mapping[str, str],
    scope: Scope,
    fields: dict[bytes, bytes],
    receive: Receive,
    send: Send,
    closing: bool,
) -> None:
    """Answer with the generator's items. In flight until the stream ends; errors before the first item are raised."""
    call.arguments = await in_time(call, arguments(lane, names, scope, fields, receive))
    events = stream.NDJSON not in fields.get(b"accept", b"")
    chunks = (scope.get("extensions") or {}).get(CHUNKS)
    reply = _Reply(lane, call, events=events, closing=closing, send=send, chunks=chunks)
    code = 500
    watch = None
    try:
        async with hold(lane, call) as items:
            watch = asyncio.create_task(cancel_when_gone(call, receive))
            await reply.send_all(items)
        code = 200
    except asyncio.CancelledError:
        if call.error is None:
            raise
        code = await reply.fail(call.error)  # the deadline passed or the caller left
    except Exception as error:
        code = await reply.fail(error)
    finally:
        if watch is not None:
            watch.cancel()
        call.end(None)
        lane.figures.answered(code, time.monotonic() - call.entered_at)


class _Reply:
    """The response: begun with the first chunk, so that what fails before is still a proper problem."""

    def __init__(
        self, lane: HeldLane, call: Call, *, events: bool, closing: bool, send: Send, chunks: Chunks | None
    ) -> None:
        self._lane = lane
        self._call = call
        self._events = events
        self._closing = closing
        self._send = send
        self._write_now = chunks.write if chunks is not None else None
        self._begun = False
        self._frame = stream.event if events else stream.line
        self._to_json = lane.signature.to_json
        self._figures = lane.figures

    async def send_all(self, items: AsyncGenerator[Any, None]) -> None:
        async with aclosing(items):
            await stream.pump(items, self._encode, self._write, self._write_now)
        if not self._begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": b""})

    async def _write(self, chunk: bytes) -> None:
        if not self._begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def fail(self, error: BaseException) -> int:
        """Tell the caller, as far as that is still possible; the status that was sent."""
        told = known(error, self._lane.name, self._call.request_id)
        if self._begun:
            frame = stream.failure(told, self._call.request_id, events=self._events)
            await self._send({"type": "http.response.body", "body": frame})
            return told.status
        answer = refusal(told, self._call.request_id)
        headers = answer.all_headers(self._call.request_id)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})
        return answer.status

    def _encode(self, item: Any) -> bytes:
        self._figures.stream_items += 1
        return self._frame(self._to_json(item))

    async def _begin(self) -> None:
        self._begun = True
        headers = [
            (b"content-type", stream.EVENTS if self._events else stream.NDJSON),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._call.request_id.encode("latin-1")),
        ]
        if self._closing:
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})


class hold:
    """A slot of the lane for the call's generator; the slot is free when the generator has really stopped.

    While it is held, the end of the call (deadline, caller gone) cancels the task that holds it.
    """

    def __init__(self, lane: HeldLane, call: Call) -> None:
        self._lane = lane
        self._call = call
        self._began_at = 0.0
        self._in_thread = not lane.endpoint.is_async

    async def __aenter__(self) -> AsyncGenerator[Any, None]:
        await begin(self._lane, self._call)
        self._began_at = time.monotonic()
        context.request_id.set(self._call.request_id)
        context.deadline.set(self._call.deadline)
        generator = self._lane.handler(**self._call.arguments)
        if not self._in_thread:
            return generator  # type: ignore[no-any-return]
        worker, free = self._lane.worker, self._free
        return stream.ThreadItems(generator, copy_context(), worker, free).items()

    async def __aexit__(self, *_: object) -> None:
        self._call.on_cancel = None
        if not self._in_thread:
            self._free()

    def _free(self) -> None:
        self._lane.release(self._began_at)


async def begin(lane: HeldLane, call: Call) -> None:
    """Return when the call has its slot. Raises what ended it in the queue."""
    begun = asyncio.Event()
    call.on_begin = begun.set
    call.on_end = lambda _: begun.set()
    call.began_at = time.monotonic()
    lane.enter(call)
    try:
        await begun.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise
    if call.ended and call.error is not None:
        raise call.error
    task = asyncio.current_task()
    assert task is not None
    call.on_end = None
    call.on_cancel = task.cancel
