"""Streams: items of a generator as server-sent events or as JSON lines.

Items that a generator yields without waiting are sent in one write: ten tokens at once cost one system call, not ten.
Nothing is delayed for it: they are written as soon as the generator waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import types
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextvars import Context
from typing import Any

from kaon.runtime.threads import Worker
from kaon.types.service import WireProtocol

NDJSON = b"application/x-ndjson"
EVENTS = b"text/event-stream"

DONE = b"data: [DONE]\n\n"
"""The last frame of a stream of events in the form of the OpenAI API."""
_FULL_BYTES = 65_536
_AHEAD = 256
"""Items that a sync generator may be ahead of its caller."""

Frame = Callable[[bytes], bytes]


def event(item: bytes) -> bytes:
    """One server-sent event. JSON has no line breaks, so one `data:` line holds it."""
    return b"data: %b\n\n" % item


def line(item: bytes) -> bytes:
    """One line of NDJSON."""
    return item + b"\n"


def failure(problem: bytes, *, events: bool, protocol: WireProtocol = "kaon") -> bytes:
    """The last frame of a stream that failed: an `error` event, or a line with `error`."""
    if events:
        return b"event: error\ndata: %b\n\n" % problem
    return b"%b\n" % problem if protocol == "openai" else b'{"error": %b}\n' % problem


@types.coroutine
def pump(
    items: AsyncGenerator[Any, None],
    encode: Callable[[Any], bytes],
    write: Callable[[bytes], Coroutine[Any, Any, None]],
    write_now: Callable[[bytes], bool] | None = None,
) -> Generator[Any, Any, None]:
    """Write all items; those that `items` yields without waiting in one chunk.

    A chunk is written by `write_now` if that returns True, else by `write`, which may wait. The generator is stepped by
    hand, to see whether it waits. Its errors are raised after the items before them are written.
    """
    held: list[bytes] = []
    size = 0
    following = items.__anext__
    while True:
        step: Any = following()
        try:
            waited = step.send(None)
            if held:
                chunk = held[0] if len(held) == 1 else b"".join(held)
                held, size = [], 0
                if write_now is None or not write_now(chunk):
                    try:
                        yield from write(chunk).__await__()
                    except BaseException as error:  # the generator waits: raise it there, as from its own await
                        waited = step.throw(error)
            while True:
                try:
                    value = yield waited
                except BaseException as error:
                    waited = step.throw(error)
                else:
                    waited = step.send(value)
        except StopIteration as ready:
            frame = encode(ready.value)
        except StopAsyncIteration:
            break
        except BaseException:
            if held:
                yield from write(b"".join(held)).__await__()
            raise
        if not frame:  # an empty chunk would end the response
            continue
        held.append(frame)
        size += len(frame)
        if size >= _FULL_BYTES:
            yield from write(b"".join(held)).__await__()
            held, size = [], 0
    if held:
        yield from write(b"".join(held)).__await__()


async def generator_of(items: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """An async iterator as a generator, which can be closed."""
    async for item in items:
        yield item


class ThreadItems:
    """The items of a sync iterator, which runs in a thread, as an async generator. `on_stopped`: called at its end."""

    def __init__(
        self, iterator: Iterator[Any], context: Context, worker: Worker, on_stopped: Callable[[], None]
    ) -> None:
        self._iterator = iterator
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._changed = asyncio.Event()
        self._notified = False
        self._finished = False
        self._error: BaseException | None = None
        self._closed = False
        self._on_stopped = on_stopped
        worker.run(lambda: context.run(self._work), self._stopped)

    async def items(self) -> AsyncGenerator[Any, None]:
        """The items, in order; then the generator's error, if it had one."""
        try:
            while True:
                while self._items:
                    yield self._items.popleft()
                    self._room.release()
                if self._finished:
                    break
                self._changed.clear()
                self._notified = False
                if not self._items:
                    await self._changed.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.close()

    def close(self) -> None:
        """Stop: the generator is closed at its next item."""
        self._closed = True
        self._room.release()

    def _work(self) -> None:
        try:
            for item in self._iterator:
                self._room.acquire()
                if self._closed:
                    return
                self._items.append(item)
                if not self._notified:
                    self._notified = True
                    self._loop.call_soon_threadsafe(self._changed.set)
        finally:
            if isinstance(self._iterator, Generator):
                with contextlib.suppress(ValueError):
                    self._iterator.close()

    def _stopped(self, _: Any, error: BaseException | None) -> None:
        self._error = error
        self._finished = True
        self._changed.set()
        self._on_stopped()
