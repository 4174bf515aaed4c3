"""Calls that share a batch are independent: nothing that one does may affect another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import kaon
from kaon.runtime.batcher import BatchLane


@kaon.service
class Batched:
    """Each handler notes the batches that it saw; `gate` holds the first one until the test lets go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.opened = asyncio.Event()
        self.opened.set()

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def double(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.gate.wait(5)
        return [2 * n for n in numbers]

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    async def adouble(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        await self.opened.wait()
        return [2 * n for n in numbers]

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def miscounts(self, numbers: list[int]) -> list[int]:
        self.gate.wait(5)
        return numbers[1:] if numbers[0] < 0 else [*numbers, 0] if numbers[0] > 100 else numbers

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def in_list(self, numbers: list[int]) -> list[int]:
        self.gate.wait(5)
        return [kaon.ItemError(f"{n} is negative") if n < 0 else n for n in numbers]  # type: ignore[misc]

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def raises(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.gate.wait(5)
        for index, n in enumerate(numbers):
            if n < 0:
                raise kaon.ItemError(f"{n} is negative", index=index)
        return numbers

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def raises_for_somebody(self, numbers: list[int]) -> list[int]:
        self.gate.wait(5)
        if min(numbers) < 0:
            raise kaon.ItemError("something is negative")
        return numbers

    @kaon.endpoint(batch=kaon.Batch(max_size=8), timeout_s=0.2)
    def slow(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.gate.wait(5)
        return numbers


async def gathered(
    running: Any, path: str, calls: list[list[int]], eventually: Callable[..., Awaitable[None]]
) -> tuple[Any, list[asyncio.Task[Any]]]:
    """Send one call that holds the handler, then `calls`, which gather into the next batch behind it."""
    running.instance.gate.clear()
    lane = running.lane(path.replace("-", "_"))
    first = asyncio.create_task(running.client.post(f"/{path}", json={"numbers": [1]}))
    await eventually(lambda: lane.busy == 1)
    tasks = []
    for queued, numbers in enumerate(calls, 1):
        tasks.append(asyncio.create_task(running.client.post(f"/{path}", json={"numbers": numbers})))
        await eventually(lambda queued=queued: lane.queued == queued)
    return first, tasks


async def test_calls_that_come_while_the_handler_is_busy_are_one_batch(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    first, tasks = await gathered(running, "double", [[2], [3, 4], [5]], eventually)
    running.instance.gate.set()
    answers = [(await task).json() for task in (first, *tasks)]
    assert answers == [[2], [4], [6, 8], [10]]
    assert running.instance.batches == [[1], [2, 3, 4, 5]]


async def test_cancelling_one_call_of_a_batch_leaves_the_others_unharmed(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    lane = running.lane("double")
    running.instance.gate.clear()
    _, tasks = await gathered(running, "double", [[2], [3], [4]], eventually)
    running.instance.gate.set()
    running.instance.gate.clear()
    await eventually(lambda: lane.queued == 0)  # the three are in the handler now
    tasks[1].cancel()
    await eventually(lambda: lane.in_flight == 2)
    running.instance.gate.set()
    assert (await tasks[0]).json() == [4]
    assert (await tasks[2]).json() == [8]
    await eventually(lambda: lane.busy == 0 and lane.in_flight == 0)


async def test_a_call_that_is_cancelled_in_the_queue_never_reaches_the_handler(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    first, tasks = await gathered(running, "double", [[2], [3], [4]], eventually)
    tasks[1].cancel()
    await eventually(lambda: running.lane("double").queued == 2)
    running.instance.gate.set()
    assert (await tasks[0]).json() == [4]
    assert (await tasks[2]).json() == [8]
    assert running.instance.batches == [[1], [2, 4]]
    assert (await first).json() == [2]


@pytest.mark.parametrize(("culprit", "said"), [(-1, "2 results"), (101, "4 results")])
async def test_too_few_or_too_many_results_fail_those_calls_and_hang_none(
    serve: Any, eventually: Any, culprit: int, said: str
) -> None:
    running = await serve(Batched)
    first, tasks = await gathered(running, "miscounts", [[culprit], [3], [4]], eventually)
    running.instance.gate.set()
    assert (await first).json() == [1]
    for task in tasks:
        answer = await task
        assert answer.status_code == 502
        assert answer.json()["code"] == "bad-answer"
        assert said in answer.json()["detail"]
    assert (await running.client.post("/miscounts", json={"numbers": [7]})).json() == [7]


@pytest.mark.parametrize("path", ["in-list", "raises", "raises-for-somebody"])
async def test_one_bad_item_fails_alone(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Batched)
    _, tasks = await gathered(running, path, [[2], [-3], [4], [5, -6]], eventually)
    running.instance.gate.set()
    answers = [await task for task in tasks]
    assert [answer.status_code for answer in answers] == [200, 422, 200, 422]
    assert answers[1].json()["code"] == "item-error"
    assert "negative" in answers[1].json()["detail"]
    if path != "raises-for-somebody":
        assert answers[3].json()["detail"] == "Row 1: -6 is negative"


async def test_the_rest_of_a_batch_is_repeated_without_the_bad_row(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    _, tasks = await gathered(running, "raises", [[2], [-3], [4]], eventually)
    running.instance.gate.set()
    await asyncio.gather(*tasks)
    assert running.instance.batches == [[1], [2, -3, 4], [2, 4]]


async def test_a_single_request_does_not_wait(serve: Any) -> None:
    running = await serve(Batched)
    for number in range(20):
        assert (await running.client.post("/double", json={"numbers": [number]})).json() == [2 * number]
    assert running.instance.batches == [[number] for number in range(20)]


async def test_a_batch_never_exceeds_its_maximum_because_a_request_carries_many_rows(
    serve: Any, eventually: Any
) -> None:
    running = await serve(Batched)
    calls = [[1] * 5, [2] * 5, [3] * 21, [4]]
    first, tasks = await gathered(running, "double", calls, eventually)
    running.instance.gate.set()
    assert [(await task).json() for task in tasks] == [[2 * n for n in call] for call in calls]
    assert max(len(seen) for seen in running.instance.batches) <= 8
    assert sum(len(seen) for seen in running.instance.batches) == 1 + 5 + 5 + 21 + 1
    assert (await first).json() == [2]


async def test_a_call_without_rows_is_answered_without_the_handler(serve: Any) -> None:
    running = await serve(Batched)
    assert (await running.client.post("/double", json={"numbers": []})).json() == []
    assert running.instance.batches == []
    assert running.lane("double").in_flight == 0


async def test_lists_of_different_length_are_refused_by_name(serve: Any) -> None:
    @kaon.service
    class Pairs:
        @kaon.endpoint(batch=kaon.Batch(max_size=4))
        def add(self, a: list[int], b: list[int]) -> list[int]:
            return [x + y for x, y in zip(a, b, strict=True)]

    running = await serve(Pairs)
    answer = await running.client.post("/add", json={"a": [1], "b": [1, 2]})
    assert answer.status_code == 400
    assert "one length" in answer.json()["detail"]
    assert (await running.client.post("/add", json={"a": [1], "b": [2]})).json() == [3]


async def test_a_timed_out_batch_keeps_its_slot_until_its_thread_ends(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    lane = running.lane("slow")
    running.instance.gate.clear()
    answer = await running.client.post("/slow", json={"numbers": [1]})
    assert answer.status_code == 504
    assert (lane.busy, lane.in_flight) == (1, 0)
    behind = await running.client.post("/slow", json={"numbers": [2]})
    assert behind.status_code == 504
    assert "in the queue" in behind.json()["detail"]
    assert running.instance.batches == [[1]]
    running.instance.gate.set()
    await eventually(lambda: lane.busy == 0)
    assert (await running.client.post("/slow", json={"numbers": [3]})).json() == [3]


async def test_an_async_batch_without_callers_is_cancelled(serve: Any, eventually: Any) -> None:
    running = await serve(Batched)
    lane = running.lane("adouble")
    running.instance.opened.clear()
    task = asyncio.create_task(running.client.post("/adouble", json={"numbers": [1]}))
    await eventually(lambda: lane.busy == 1)
    task.cancel()
    await eventually(lambda: lane.busy == 0 and lane.in_flight == 0)


async def test_64_clients_see_no_refusal_and_large_batches(serve: Any) -> None:
    @kaon.service
    class Device:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        @kaon.endpoint(batch=kaon.Batch(max_size=32))
        def run(self, rows: list[int]) -> list[int]:
            self.sizes.append(len(rows))
            threading.Event().wait(0.004)  # a device at work
            return rows

    running = await serve(Device)

    async def one_client(number: int) -> list[int]:
        return [(await running.client.post("/run", json={"rows": [number]})).status_code for _ in range(5)]

    codes = await asyncio.gather(*(one_client(n) for n in range(64)))
    assert {code for client in codes for code in client} == {200}
    assert max(running.instance.sizes) > 8
    lane = running.lane("run")
    assert isinstance(lane, BatchLane)
    assert (lane.in_flight, lane.queued, lane.busy) == (0, 0, 0)
    assert lane.figures.batch_rows.total == 320
