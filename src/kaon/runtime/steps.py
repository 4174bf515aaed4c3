"""Runs coroutines without a task of their own until they wait.

A handler that only computes finishes in its first step, and a task (its object, one turn of the loop to start it, one
to collect it) would cost more than the handler. So the first step is taken at once. But its code may ask for the
current task (`asyncio.timeout`, anyio, aiohttp do), and must find the same one after it has waited. Hence the *spare*:
a real task that waits for work. The first step runs with the spare as the current task; if the coroutine finishes, the
spare serves the next call; if it waits, the spare takes it over and a new spare is made.

Each coroutine runs in a context of its own, so no call sees what another one sets.
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
        """A task that is cancelled before its first step never runs: a new spare takes over its coroutine."""
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
    """The rest of a coroutine that has taken its first step and waits for `waited`."""

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
    """The result of `work`, run in a task with that context.

    KeyboardInterrupt and SystemExit, which would end the loop when raised in a task, are raised here instead.
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
    """Runs coroutines on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare = _Spare(loop)

    def start(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, done: DoneCallback
    ) -> asyncio.Task[None] | None:
        """Run `coroutine` in `context`; `done` gets its value or error, before this returns if it never waits.

        Returns the task in which the rest runs, or None when there is no rest.
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
        """End the spare. Nothing may be started after that."""
        self._spare.task.cancel()
