"""Streams: items of a generator as server-sent events or as JSON lines.

What a generator gives in one turn of the loop is sent in one write: a model that hands over ten tokens at once costs
one system call, not ten. Nothing is held back for it: as soon as the generator really waits, what there is goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Context
from typing import Any

from kaon.errors import KaonError
from kaon.runtime.steps import Rest
from kaon.runtime.threads import Threads

NDJSON = b"application/x-ndjson"
EVENTS = b"text/event-stream"

_FULL_BYTES = 65_536
_AHEAD = 256
"""Items that a sync generator may be ahead of its reader."""

Frame = Callable[[bytes], bytes]


def event(item: bytes) -> bytes:
    """One server-sent event. JSON has no line breaks, so one `data:` line holds it."""
    return b"data: %b\n\n" % item


def line(item: bytes) -> bytes:
    """One line of NDJSON."""
    return item + b"\n"


def failure(error: KaonError, request_id: str, *, events: bool) -> bytes:
    """The last frame of a stream that broke: an `error` event, or a line with `error` in it."""
    if events:
        return b"event: error\ndata: %b\n\n" % error.problem_json(request_id)
    return json.dumps({"error": error.problem(request_id)}, ensure_ascii=False).encode() + b"\n"


async def chunks(items: AsyncGenerator[Any, None], encode: Callable[[Any], bytes]) -> AsyncGenerator[bytes, None]:
    """The stream's bytes: one chunk for all that `items` gives before it waits.

    Errors of the generator go through, after what it gave before.
    """
    held: list[bytes] = []
    size = 0
    while True:
        step = items.__anext__()
        try:
            waited = step.send(None)
        except StopIteration as ready:
            held.append(encode(ready.value))
            size += len(held[-1])
            if size >= _FULL_BYTES:
                yield b"".join(held)
                held, size = [], 0
            continue
        except StopAsyncIteration:
            if held:
                yield b"".join(held)
            return
        except Exception:
            if held:
                yield b"".join(held)
            raise
        if held:
            try:
                yield b"".join(held)
            except BaseException:
                step.close()
                raise
            held, size = [], 0
        try:
            item = await Rest(step.send, step.throw, waited)
        except StopAsyncIteration:
            return
        held.append(encode(item))
        size += len(held[-1])


class ThreadItems:
    """The items of a sync generator, which runs in a thread, as an async generator. `on_stopped` tells its end."""

    def __init__(
        self, generator: Generator[Any, None, None], context: Context, threads: Threads, on_stopped: Callable[[], None]
    ) -> None:
        self._generator = generator
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._news = asyncio.Event()
        self._told = False
        self._over = False
        self._error: BaseException | None = None
        self._closed = False
        self._on_stopped = on_stopped
        threads.run(lambda: context.run(self._work), self._stopped)

    async def items(self) -> AsyncGenerator[Any, None]:
        """The items, in order; then the generator's error, if it had one."""
        try:
            while True:
                while self._items:
                    yield self._items.popleft()
                    self._room.release()
                if self._over:
                    break
                self._news.clear()
                self._told = False
                if not self._items:
                    await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._closed = True
            self._room.release()

    def _work(self) -> None:
        try:
            for item in self._generator:
                self._room.acquire()
                if self._closed:
                    return
                self._items.append(item)
                if not self._told:
                    self._told = True
                    self._loop.call_soon_threadsafe(self._news.set)
        finally:
            with contextlib.suppress(ValueError):
                self._generator.close()

    def _stopped(self, _: Any, error: BaseException | None) -> None:
        self._error = error
        self._over = True
        self._news.set()
        self._on_stopped()
