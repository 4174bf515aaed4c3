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
    """A few threads, apart from the loop's executor; the end of this process does not wait for them."""

    def __init__(self, name: str, count: int) -> None:
        """`count`: how many works are done at once; others wait."""
        self._name = name
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`. Raises what it raises, and `Unavailable` when no thread can be started.

        When a waiting caller is cancelled, the thread still counts until it has ended.
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
            raise Unavailable(
                f"No thread can be started: {error}.", hint="Check the limits of the machine: ulimit -u"
            ) from None
        return await answer
