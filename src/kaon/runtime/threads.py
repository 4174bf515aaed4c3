"""Threads for handlers that block.

A pool makes a thread only when all of its threads work, and never counts: how many may work at once is the lane's
rule, which holds a slot until the thread has really ended its work, whether or not somebody still waits for it.

The process's main thread is a worker of its own kind: it imports and constructs the class, runs the hooks of start
and stop, and the handlers that run one at a time. So whatever is bound to a thread (a database connection, a device
context), dies with its thread, or may be done in the main thread only (signal handlers) works in all of them.
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
    """What runs functions off the loop."""

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` elsewhere; `done` gets its value or error on the loop."""

    def close(self) -> None:
        """Nothing more will be run for this user of it."""


class Threads:
    """Runs functions in threads and reports on the loop. All methods are called on the loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._idle = 0
        self._made = 0
        self._jobs: SimpleQueue[tuple[Callable[[], Any], DoneCallback] | None] = SimpleQueue()

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` in a thread; `done` gets its value or error on the loop. Raises NotBegun: there is none."""
        if self._idle:
            self._idle -= 1
        else:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._made + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine's or the process's limit
                raise NotBegun(
                    "The replica cannot start another thread.", hint="Try again in a moment.", retry_after_s=1.0
                ) from error
            self._made += 1
        self._jobs.put((work, done))

    def close(self) -> None:
        """Let the idle threads end."""
        for _ in range(self._made):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            value, failed = _outcome(work)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._finished, done, value, failed)
            del job, work, done, value, failed

    def _finished(self, done: DoneCallback, value: Any, error: BaseException | None) -> None:
        self._idle += 1
        done(value, error)


class MainThread:
    """Runs functions in the process's main thread, one at a time, in the order in which they were given."""

    def __init__(self, after_each: Callable[[], None]) -> None:
        """`after_each` is called in the main thread whenever a function has ended, before its outcome is told."""
        self._after_each = after_each
        self._jobs: SimpleQueue[tuple[Callable[[], Any], DoneCallback, asyncio.AbstractEventLoop] | None] = (
            SimpleQueue()
        )
        self.busy = False
        """Whether a function runs now."""

    def run(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work()` when its turn comes. Call it on the loop, where `done` gets the value or the error."""
        self._jobs.put((work, done, asyncio.get_running_loop()))

    def close(self) -> None:
        """Nothing: others use it too. See `end`."""

    def end(self) -> None:
        """Let `serve` return when what was given before has run."""
        self._jobs.put(None)

    def serve(self) -> None:
        """Work until `end`. To be called in the main thread."""
        while (job := self._next()) is not None:
            work, done, loop = job
            self.busy = True
            value, failed = _outcome(work)
            self.busy = False
            self._after_each()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done, value, failed)
            del job, work, done, loop, value, failed

    def _next(self) -> tuple[Callable[[], Any], DoneCallback, asyncio.AbstractEventLoop] | None:
        while True:
            try:
                return self._jobs.get()
            except BaseException:  # raised by a signal handler that the service has set
                _log.exception("a signal handler of the service failed")


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """The value or the error of `work()`. A forked child that comes back from it ends here."""
    try:
        value, failed = work(), None
    except BaseException as error:
        value, failed = None, error
    if forks.in_child():
        forks.leave(failed)
    return value, failed
