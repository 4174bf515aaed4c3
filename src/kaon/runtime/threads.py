"""Threads for handlers that block.

A pool makes a thread only when all of its threads work, and never counts: how many may work at once is the lane's
rule, which holds a slot until the thread has really ended its work, whether or not somebody still waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from kaon.errors import Unavailable

Done = Callable[[Any, BaseException | None], None]


class Threads:
    """Runs functions in threads and reports on the loop. All methods are called on the loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._idle = 0
        self._made = 0
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()

    def run(self, work: Callable[[], Any], done: Done) -> None:
        """Run `work()` in a thread; `done` gets its value or error on the loop. Raises Unavailable: there is none."""
        if self._idle:
            self._idle -= 1
        else:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._made + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine's or the process's limit
                raise Unavailable(
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
            value, failed = None, None
            try:
                value = work()
            except BaseException as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._finished, done, value, failed)
            del job, work, done, value, failed

    def _finished(self, done: Done, value: Any, error: BaseException | None) -> None:
        self._idle += 1
        done(value, error)
