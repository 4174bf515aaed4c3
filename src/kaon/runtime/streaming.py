"""Serving a generator endpoint over ASGI, until its last item, its failure, or its caller disconnects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from contextvars import copy_context
from typing import Any

from kaon import context
from kaon.runtime import stream
from kaon.runtime.answers import Answer, interrupted, problem_answer, public_error
from kaon.runtime.asgi import AsgiScope, Receive, Send
from kaon.runtime.bodies import pause_limited
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.inputs import arguments, cancel_on_disconnect, within_deadline
from kaon.runtime.lane import HeldLane
from kaon.runtime.long_calls import LongCalls

_FAILURE_WRITE_S = 1.0
"""How long writing the error of a failed stream may take."""


async def serve_stream(
    lane: HeldLane,
    call: Call,
    names: Mapping[str, str],
    scope: AsgiScope,
    fields: dict[bytes, bytes],
    receive: Receive,
    send: Send,
    long_calls: LongCalls,
    closing: bool,
) -> None:
    """Answer with the generator's items. In flight until the stream ends; errors before it begins are raised.

    HEAD is answered without running the generator.
    """
    call.arguments = await within_deadline(call, arguments(lane, names, scope, fields, pause_limited(receive)))
    reply = _Reply(lane, call, fields, closing=closing, send=send, chunks=(scope.get("extensions") or {}).get(CHUNKS))
    if scope["method"] == "HEAD":
        await reply.head()
        return
    code = 500
    watch = asyncio.create_task(cancel_on_disconnect(call, receive))
    try:
        with long_calls.held(call.grant, call.give_up):
            async with held_slot(lane, call) as items:
                await reply.send_all(items)
        code = 200
    except BaseException as error:
        gave_up = (
            call.error if isinstance(error, asyncio.CancelledError) else None
        )  # deadline, caller gone, key revoked
        if gave_up is None and interrupted(error):
            raise
        code = await reply.fail(gave_up or error)
    finally:
        watch.cancel()
        call.end(None)
        lane.figures.answered(code, time.monotonic() - call.entered_at)


class _Reply:
    """The response. It begins with the first chunk: an error before that is answered with its status."""

    def __init__(
        self,
        lane: HeldLane,
        call: Call,
        fields: Mapping[bytes, bytes],
        *,
        closing: bool,
        send: Send,
        chunks: Chunks | None,
    ) -> None:
        self._lane = lane
        self._call = call
        self._fields = fields
        self._raw = lane.spec.media_type.encode("ascii")
        self._events = stream.NDJSON not in fields.get(b"accept", b"")
        self._closing = closing
        self._send = send
        self._chunks = chunks
        self._begun = False
        self._frame = stream.event if self._events else stream.line
        self._to_json = lane.signature.to_json
        self._figures = lane.figures

    async def head(self) -> None:
        """The response to HEAD."""
        await self._begin()
        await self._send({"type": "http.response.body", "body": b""})
        self._figures.answered(200, time.monotonic() - self._call.entered_at)

    async def send_all(self, items: AsyncGenerator[Any, None]) -> None:
        encode = self._piece if self._raw else self._encode
        async with aclosing(items):
            await stream.pump(items, encode, self._write, self._chunks.write if self._chunks is not None else None)
        if not self._begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": b""})

    async def _write(self, chunk: bytes) -> None:
        if not self._begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def fail(self, error: BaseException) -> int:
        """Report the error to the caller; the status for the figures.

        A stream of bytes has no form for an error: its connection is closed, so that the caller sees that it is
        incomplete. So is that of a caller who does not read.
        """
        answer = problem_answer(
            public_error(error, self._lane.name, self._call.request_id), self._call.request_id, self._fields
        )
        if self._begun and self._raw:
            self._cut()
            return answer.status
        try:
            async with asyncio.timeout(_FAILURE_WRITE_S):
                await self._send_failure(answer)
        except TimeoutError:
            self._cut()
        return answer.status

    async def _send_failure(self, answer: Answer) -> None:
        body = answer.body
        if self._begun:
            body = stream.failure(body, events=self._events)
        else:
            headers = answer.all_headers(self._call.request_id)
            await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _cut(self) -> None:
        if self._chunks is None:
            raise ConnectionAbortedError("the stream failed")  # the server closes the connection
        self._chunks.cut()

    def _encode(self, item: Any) -> bytes:
        self._count()
        return self._frame(self._to_json(item))

    def _piece(self, item: Any) -> bytes:
        self._count()
        return self._lane.signature.to_bytes(item)

    def _count(self) -> None:
        if self._call.ended:  # the generator went on after it was cancelled
            raise asyncio.CancelledError
        self._figures.stream_items += 1

    async def _begin(self) -> None:
        self._begun = True
        headers = [
            (b"content-type", self._raw or (stream.EVENTS if self._events else stream.NDJSON)),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._call.request_id.encode("latin-1")),
        ]
        if self._closing:
            headers.append((b"connection", b"close"))
        status = 200
        if (head := self._call.arguments.get(self._lane.signature.response or "")) is not None:
            status = head.status_code
            headers += head.fields()
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


class held_slot:
    """A slot of the lane for the call's generator, released when the generator has stopped.

    Within the block, the end of the call (deadline, disconnect) cancels the current task.
    """

    def __init__(self, lane: HeldLane, call: Call) -> None:
        self._lane = lane
        self._call = call
        self._thread: stream.ThreadItems | None = None

    async def __aenter__(self) -> AsyncGenerator[Any, None]:
        try:
            await begin(self._lane, self._call)
            return self._items()
        except BaseException:
            self._call.free()
            raise

    def _items(self) -> AsyncGenerator[Any, None]:
        context.enter(self._call.request_id, self._call.deadline)
        generator = self._lane.handler(**self._call.arguments)
        if self._lane.endpoint.is_async:
            return generator  # type: ignore[no-any-return]
        self._thread = stream.ThreadItems(generator, copy_context(), self._lane.worker, self._call.free)
        return self._thread.items()

    async def __aexit__(self, *_: object) -> None:
        self._call.on_cancel = None
        if self._thread is None:
            self._call.free()
        else:
            self._thread.close()


async def begin(lane: HeldLane, call: Call) -> None:
    """Return when the call has a slot. Raises TooManyRequests, or CancelledError when it ended in the queue."""
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
    if call.ended:
        raise asyncio.CancelledError  # `call.error` says why
    task = asyncio.current_task()
    assert task is not None
    call.on_end = None
    call.on_cancel = task.cancel
