"""Coroutines without tasks: what handlers can rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from tests.waiting import forever, lasts, turns

from kaon.runtime.steps import Stepper


async def stepped(stepper: Stepper, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, asyncio.Task[None] | None]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: Any, error: BaseException | None) -> None:
        if error is None:
            answer.set_result(value)
        else:
            answer.set_result(error)

    task = stepper.start(coroutine, Context(), done)
    return await answer, task


async def test_a_coroutine_that_does_not_wait_makes_no_task() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def at_once() -> int:
        return 1

    before = len(asyncio.all_tasks())
    assert await stepped(stepper, at_once()) == (1, None)
    assert len(asyncio.all_tasks()) <= before + 1  # the spare
    stepper.close()


async def test_the_current_task_is_one_and_the_same_before_and_after_the_first_wait() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def looks() -> list[Any]:
        seen = [asyncio.current_task()]
        await turns(1)
        seen.append(asyncio.current_task())
        await lasts(0.001)
        seen.append(asyncio.current_task())
        return seen

    seen, task = await stepped(stepper, looks())
    assert task is not None
    assert seen == [task] * 3
    assert asyncio.current_task() is not task
    stepper.close()


async def test_two_that_wait_do_not_share_a_task() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def me() -> Any:
        await lasts(0.005)
        return asyncio.current_task()

    (one, _), (other, _) = await asyncio.gather(stepped(stepper, me()), stepped(stepper, me()))
    assert one is not other
    stepper.close()


async def test_a_cancel_in_the_turn_of_the_hand_over_arrives() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def sleeps() -> None:
        await forever()

    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = stepper.start(sleeps(), Context(), lambda _, error: outcome.set_result(error))
    assert task is not None
    task.cancel()
    assert isinstance(await outcome, asyncio.CancelledError)
    stepper.close()


async def test_errors_of_the_first_and_of_later_steps_arrive() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def fails(wait: bool) -> None:
        if wait:
            await turns(1)
        raise ValueError("x")

    for wait in (False, True):
        outcome, _ = await stepped(stepper, fails(wait))
        assert isinstance(outcome, ValueError)
    stepper.close()


async def test_task_groups_and_timeouts_work_from_the_first_step_on() -> None:
    stepper = Stepper(asyncio.get_running_loop())

    async def inner(number: int) -> int:
        await lasts(0.001)
        return number

    async def grouped() -> int:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(inner(n)) for n in range(3)]
        return sum(task.result() for task in tasks)

    assert (await stepped(stepper, grouped()))[0] == 3
    stepper.close()
