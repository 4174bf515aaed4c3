"""Serving a generator endpoint over ASGI, until its last item, its failure, or its caller disconnects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from kaon import context
from kaon.runtime import stream
from kaon.runtime.answers import Answer, answer_to, interrupted, problem_answer, public_error
from kaon.runtime.asgi import AsgiScope, Receive, Send
from kaon.runtime.bodies import pause_limited
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.inputs import arguments, cancel_on_disconnect, within_deadline
from kaon.runtime.lane import HeldLane
from kaon.runtime.long_calls import LongCalls
from kaon.types.headers import check

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
    """Answer with the handler's items, or with its one answer. In flight until the stream ends; errors before it
    begins are raised.

    HEAD is answered without running the handler.
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
            async with held_slot(lane, call) as result:
                code = await (reply.send_once(result.value) if isinstance(result, _Once) else reply.send_all(result))
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
        self._writer = lane.signature.items or lane.signature
        self._protocol = lane.spec.protocol
        self._figures = lane.figures

    async def head(self) -> None:
        """The response to HEAD. The media type of one that may be an answer or a stream is not known."""
        await self._begin(with_type=not self._lane.spec.answers_once)
        await self._send({"type": "http.response.body", "body": b""})
        self._figures.answered(200, time.monotonic() - self._call.entered_at)

    async def send_once(self, value: Any) -> int:
        """The response with one answer; its status."""
        answer = answer_to(self._lane.signature, self._call.arguments, value)
        headers = answer.all_headers(self._call.request_id)
        check(headers)
        if self._closing:
            headers.append((b"connection", b"close"))
        self._begun = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})
        return answer.status

    async def send_all(self, items: AsyncGenerator[Any, None]) -> int:
        """The response with all items; its status for the figures."""
        encode = self._piece if self._raw else self._encode
        async with aclosing(items):
            await stream.pump(items, encode, self._write, self._chunks.write if self._chunks is not None else None)
        if not self._begun:
            await self._begin()
        last = stream.DONE if self._protocol == "openai" and self._events and not self._raw else b""
        await self._send({"type": "http.response.body", "body": last})
        return 200

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
            public_error(error, self._lane.name, self._call.request_id),
            self._call.request_id,
            self._fields,
            self._protocol,
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
            body = stream.failure(body, events=self._events, protocol=self._protocol)
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
        return self._frame(self._writer.to_json(item))

    def _piece(self, item: Any) -> bytes:
        self._count()
        return self._writer.to_bytes(item)

    def _count(self) -> None:
        if self._call.ended:  # the generator went on after it was cancelled
            raise asyncio.CancelledError
        self._figures.stream_items += 1

    async def _begin(self, *, with_type: bool = True) -> None:
        self._begun = True
        media_type = self._raw or (stream.EVENTS if self._events else stream.NDJSON)
        headers = [
            *([(b"content-type", media_type)] if with_type else ()),
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


@dataclass(frozen=True, slots=True)
class _Once:
    """The value of a handler that did not return an iterator."""

    value: Any


class held_slot:
    """A slot of the lane for the call's handler and its items, released when both have stopped.

    Within the block, the end of the call (deadline, disconnect) cancels the current task.
    """

    def __init__(self, lane: HeldLane, call: Call) -> None:
        self._lane = lane
        self._call = call
        self._thread: stream.ThreadItems | None = None
        self._in_thread = False
        """Whether the handler itself runs in a thread, which then releases the slot."""

    async def __aenter__(self) -> AsyncGenerator[Any, None] | _Once:
        try:
            await begin(self._lane, self._call)
            context.enter(self._call.request_id, self._call.deadline)
            result = await self._result()
            return self._items(result) if isinstance(result, AsyncIterator | Iterator) else _Once(result)
        except BaseException:
            if not self._in_thread:
                self._call.free()
            raise

    async def _result(self) -> Any:
        """What the handler returns: a generator, or for each call an iterator or an answer."""
        endpoint = self._lane.endpoint
        work = partial(self._lane.handler, **self._call.arguments)
        if endpoint.is_generator:
            return work()
        if endpoint.is_async:
            return await work()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(value: Any, error: BaseException | None) -> None:
            self._in_thread = False
            if result.cancelled():
                self._call.free()
            elif error is not None:
                result.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            else:
                result.set_result(value)

        self._in_thread = True
        self._lane.worker.run(partial(copy_context().run, work), done)
        return await result

    def _items(self, source: AsyncIterator[Any] | Iterator[Any]) -> AsyncGenerator[Any, None]:
        if isinstance(source, AsyncGenerator):
            return source
        if isinstance(source, AsyncIterator):
            return stream.generator_of(source)
        self._thread = stream.ThreadItems(source, copy_context(), self._lane.worker, self._call.free)
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
