"""Threads for sync handlers.

A pool starts a thread when all of its threads are busy, without a limit of its own: the lane limits concurrency, and
keeps a slot taken until the handler has returned.

The main thread is a worker too: it imports and constructs the class, runs start and stop hooks, and handlers with
`concurrency=1`. So objects that are bound to their thread (database connections, device contexts), and what only the
main thread may do (signal handlers), work in all of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from kaon.errors import NotBegun
from kaon.runtime import forks

DoneCallback = Callable[[Any, BaseException | None], None]

_log = logging.getLogger("kaon.runtime")


class Worker(Protocol):
    """Runs functions off the loop."""

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` in a thread; `done` gets its value or error on the loop."""

    def close(self) -> None:
        """End this user's threads; nothing more will be run."""


class Threads:
    """Runs functions in threads and reports on the loop. Call all methods on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._idle = 0
        self._made = 0
        self._jobs: SimpleQueue[tuple[Callable[[], Any], DoneCallback] | None] = SimpleQueue()

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` in a thread; `done` gets its value or error on the loop. Raises NotBegun without a thread."""
        if self._idle:
            self._idle -= 1
        else:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._made + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # a limit of the machine or the process
                raise NotBegun(
                    "The replica cannot start another thread.", hint="Try again in a moment.", retry_after_s=1.0
                ) from error
            self._made += 1
        self._jobs.put((work, done))

    def close(self) -> None:
        """End the idle threads."""
        for _ in range(self._made):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            value, failed = _outcome(work)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._finished, done, value, failed)
            del job, work, done, value, failed

    def _finished(self, done: DoneCallback, value: Any, error: BaseException | None) -> None:
        self._idle += 1
        done(value, error)


class MainThread:
    """Runs functions in the main thread, one at a time, in order."""

    def __init__(self, after_each: Callable[[], None]) -> None:
        """`after_each` is called in the main thread after each function, before its outcome is reported."""
        self._after_each = after_each
        self._jobs: SimpleQueue[tuple[Callable[[], Any], DoneCallback, asyncio.AbstractEventLoop] | None] = (
            SimpleQueue()
        )
        self.busy = False
        """Whether a function is running."""

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` in turn. Call it on the loop, where `done` gets the value or the error."""
        self._jobs.put((work, done, asyncio.get_running_loop()))

    def close(self) -> None:
        """Does nothing: it has other users. See `end`."""

    def end(self) -> None:
        """Let `serve` return after the functions given so far."""
        self._jobs.put(None)

    def serve(self) -> None:
        """Run functions until `end`. Call it in the main thread."""
        while (job := self._next()) is not None:
            work, done, loop = job
            self.busy = True
            value, failed = _outcome(work)
            self.busy = False
            self._after_each()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done, value, failed)
            del job, work, done, loop, value, failed

    def _next(self) -> tuple[Callable[[], Any], DoneCallback, asyncio.AbstractEventLoop] | None:
        while True:
            try:
                return self._jobs.get()
            except BaseException:  # raised by a signal handler that the service has set
                _log.exception("a signal handler of the service failed")


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """The value or the error of `work()`. A forked child that returns from it ends here."""
    try:
        value, failed = work(), None
    except BaseException as error:
        value, failed = None, error
    if forks.in_child():
        forks.leave(failed)
    return value, failed
