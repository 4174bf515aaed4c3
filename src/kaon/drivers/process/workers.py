"""Threads for work that may block or hang: a disk, an index, a slow kernel."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from kaon.errors import Unavailable

T = TypeVar("T")


class Workers:
    """A few threads of their own, which the loop's executor and the end of this process do not wait for."""

    def __init__(self, name: str, count: int) -> None:
        """`count` is how much is done at once; the rest waits for its turn."""
        self._name = name
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work()` gives. Raises what it raises, and `Unavailable` when there can be no thread.

        Whoever gives up waiting leaves the thread its place until it has ended.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def done(value: T | None, error: Exception | None) -> None:
            self._free.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, failed = None, None
            try:
                value = work()
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done, value, failed)

        try:
            threading.Thread(target=run, name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise Unavailable(f"No thread can be started: {error}.", hint="Look at the machine's limits.") from None
        return await answer
