"""Runs coroutines without a task of their own for as long as they do not wait.

A handler that only computes is done in its first step, and a task (its object, a turn of the loop to start it, another
to collect it) would cost more than the handler. So the first step is taken at once. But code in it may ask for the
current task (`asyncio.timeout`, anyio, aiohttp do), and must find the same one later if it waits. Hence the *spare*: a
real task that waits for work. The first step runs in its name; when the coroutine is done, the spare is as unused
as before and serves the next call; when it waits, the spare takes it over and a new spare is made.

Each coroutine runs in a context of its own, so nothing that one call sets is seen by another.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented for task implementations ("Extending asyncio")
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from kaon.runtime.threads import DoneCallback


class _Spare:
    """A task that waits for a coroutine which has taken its first step."""

    __slots__ = ("_begun", "_loop", "slot", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = False
        self.slot: asyncio.Future[tuple[Rest, DoneCallback]] = loop.create_future()
        self.task = loop.create_task(self._work(), name="spare")
        self.task.add_done_callback(self._check)

    def _check(self, _: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step never runs: then another one takes over what it was given."""
        if not self._begun and self.slot.done() and not self.slot.cancelled():
            other = _Spare(self._loop)
            rest, done = self.slot.result()
            rest.interrupt()
            other.slot.set_result((rest, done))

    async def _work(self) -> None:
        self._begun = True
        try:
            rest, done = await self.slot
        except asyncio.CancelledError:
            if not self.slot.done() or self.slot.cancelled():
                return
            rest, done = self.slot.result()  # cancelled in the turn between the hand-over and now
            rest.interrupt()
        try:
            value = await rest
        except BaseException as error:
            done(None, error)
        else:
            done(value, None)


class Rest:
    """What is left of an awaitable that has taken its first step and waits for `waited`."""

    __slots__ = ("_error", "_step", "_throw", "_waited")

    def __init__(self, step: Callable[[Any], Any], throw: Callable[[BaseException], Any], waited: Any) -> None:
        self._step, self._throw, self._waited = step, throw, waited
        self._error: BaseException | None = None

    def interrupt(self) -> None:
        """Cancel it, as `Task.cancel` would."""
        if self._waited is None or not self._waited.cancel():
            self._error = asyncio.CancelledError()

    def __await__(self) -> Generator[Any, Any, Any]:
        waited, error = self._waited, self._error
        try:
            while True:
                if error is not None:
                    waited, error = self._throw(error), None
                try:
                    value = yield waited
                except BaseException as thrown:
                    error = thrown
                else:
                    waited = self._step(value)
        except StopIteration as stop:
            return stop.value


async def in_context(context: Context, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` gives, run in a task with that context.

    KeyboardInterrupt and SystemExit, which would leave a task by way of the loop and end it, are raised here only.
    """
    fatal: BaseException | None = None

    async def guarded() -> Any:
        nonlocal fatal
        try:
            return await work
        except (KeyboardInterrupt, SystemExit) as error:
            fatal = error

    value = await asyncio.create_task(guarded(), context=context)
    if fatal is not None:
        raise fatal
    return value


class Stepper:
    """Steps coroutines on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare = _Spare(loop)

    def start(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, done: DoneCallback
    ) -> asyncio.Task[None] | None:
        """Run `coroutine` in `context`; `done` gets its value or error, before this returns if it never waits.

        Answers the task in which the rest runs, or None when there is no rest.
        """
        spare, outer = self._spare, asyncio.current_task(self._loop)
        if outer is not None:
            _leave_task(self._loop, outer)
        _enter_task(self._loop, spare.task)
        value, failed, waits = None, None, False
        try:
            waited = context.run(coroutine.send, None)
            waits = True
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:
            failed = error
        finally:
            _leave_task(self._loop, spare.task)
            if outer is not None:
                _enter_task(self._loop, outer)
        if waits or spare.slot.done():
            self._spare = _Spare(self._loop)
        if not waits:
            done(value, failed)
            return None
        rest = Rest(
            lambda value: context.run(coroutine.send, value), lambda error: context.run(coroutine.throw, error), waited
        )
        if spare.slot.done():  # it cancelled its own task in its first step
            rest.interrupt()
            spare = self._spare
            self._spare = _Spare(self._loop)
        spare.slot.set_result((rest, done))
        return spare.task

    def close(self) -> None:
        """End the spare. Call it when nothing more will be started."""
        self._spare.task.cancel()
