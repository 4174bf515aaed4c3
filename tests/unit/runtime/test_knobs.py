"""A replica applies knobs at once, never exceeds what its class declares, and loses no call."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import kaon
from kaon.runtime.lane import ASYNC_SLOTS, THREAD_SLOTS
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.traffic import LATENCY_BOUNDS_S


@kaon.service
class Tuned:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def double(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.gate.wait(5)
        return [2 * n for n in numbers]

    @kaon.endpoint(batch=kaon.Batch(max_size=8, max_wait_s=5), timeout_s=4)
    def held(self, numbers: list[int]) -> list[int]:
        return numbers

    @kaon.endpoint(batch=kaon.Batch(max_size=8), concurrency=2)
    def pairs(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.gate.wait(5)
        return numbers

    @kaon.endpoint(concurrency=4)
    def work(self) -> int:
        self.gate.wait(5)
        return 1

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint
    async def count(self) -> Any:
        for i in range(2):
            yield i


async def tune(running: Any, **knobs: Any) -> None:
    answer = await running.control_client.put("/knobs", content=Knobs(**knobs).model_dump_json())
    assert answer.status_code == 204


async def figures(running: Any) -> ReplicaFigures:
    return ReplicaFigures.model_validate_json((await running.control_client.get("/figures")).content)


def calls(running: Any, path: str, *bodies: dict[str, Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(running.client.post(f"/{path}", json=body)) for body in bodies]


async def test_it_says_which_knobs_are_in_force_before_it_is_ready_and_after(serve: Any) -> None:
    running = await serve(Tuned, open_door=False)
    answer = await running.control_client.get("/ready")
    assert ReplicaHealth.model_validate_json(answer.content).knobs == AS_THE_CLASS_SAYS.named().version
    await tune(running, max_batch=2)
    answer = await running.control_client.get("/ready")
    assert ReplicaHealth.model_validate_json(answer.content).knobs == Knobs(max_batch=2).named().version
    assert (await figures(running)).knobs == Knobs(max_batch=2).named().version


async def test_what_is_no_knob_is_refused_and_nothing_changes(serve: Any) -> None:
    running = await serve(Tuned)
    for body in ('{"max_batch": 0}', '{"max_wait_s": 11}', "[]"):
        assert (await running.control_client.put("/knobs", content=body)).status_code == 400
    assert (await figures(running)).knobs == AS_THE_CLASS_SAYS.named().version


@pytest.mark.parametrize("what", ["access", "knobs", "refusals"])
async def test_what_it_is_sent_under_a_version_it_reports_under_that(serve: Any, what: str) -> None:
    running = await serve(Tuned)
    sent = {"of_a_newer_kaon": 1, "version": "of-the-body"}
    control = running.control_client
    assert (await control.put(f"/{what}?version=v1.a_B-2", json=sent)).status_code == 204
    assert (await control.get("/ready")).json()[what] == "v1.a_B-2"
    for bad in ("a" * 65, "a/b", "%20"):
        assert (await control.put(f"/{what}?version={bad}", json={})).status_code == 400
    assert (await control.get("/ready")).json()[what] == "v1.a_B-2"


async def test_knobs_lower_what_the_class_allows_and_never_raise_it(serve: Any) -> None:
    running = await serve(Tuned)
    await tune(running, max_batch=100, concurrency=5000, max_wait_s=10)
    slots = {lane.name: lane.slots for lane in running.serving.lanes}
    assert slots == {"double": 1, "held": 1, "pairs": 2, "work": 4, "echo": ASYNC_SLOTS, "count": ASYNC_SLOTS}
    assert (running.lane("double")._spec.max_size, running.lane("held")._spec.max_wait_s) == (8, 5)
    assert running.lane("double")._spec.max_wait_s == 0
    await tune(running, max_batch=3, concurrency=3, max_wait_s=0.5)
    slots = {lane.name: lane.slots for lane in running.serving.lanes}
    assert slots == {"double": 1, "held": 1, "pairs": 2, "work": 3, "echo": 3, "count": ASYNC_SLOTS}
    assert (running.lane("double")._spec.max_size, running.lane("held")._spec.max_wait_s) == (3, 0.5)
    await tune(running)
    assert running.lane("work").slots == 4 < THREAD_SLOTS
    assert running.lane("double")._spec.max_size == 8


async def test_what_waits_is_cut_when_batches_get_smaller(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    running.instance.gate.clear()
    lane = running.lane("double")
    first = calls(running, "double", {"numbers": [0]})
    await eventually(lambda: lane.busy == 1)
    waiting = calls(running, "double", {"numbers": [1, 2, 3, 4, 5]}, {"numbers": list(range(10, 30))}, {"numbers": [6]})
    await eventually(lambda: lane.queued == 3)
    await tune(running, max_batch=3)
    running.instance.gate.set()
    answers = [(await task).json() for task in (*first, *waiting)]
    assert answers == [[0], [2, 4, 6, 8, 10], [2 * n for n in range(10, 30)], [12]]
    assert max(map(len, running.instance.batches)) <= 3
    assert lane.in_flight == lane.busy == lane.queued == 0


async def test_what_was_gathered_already_is_cut_as_well(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    lane = running.lane("held")
    await calls(running, "held", {"numbers": [0] * 8})[0]
    waiting = calls(running, "held", {"numbers": [1, 2, 3]}, {"numbers": [4, 5]})
    await eventually(lambda: len(lane._gathered) == 2)
    await tune(running, max_batch=2)
    answers = [(await task).json() for task in waiting]
    assert answers == [[1, 2, 3], [4, 5]]
    assert (await figures(running)).batches.rows_squared == 64 + 4 + 1 + 4


async def test_batches_get_larger_again_for_what_comes_and_for_what_was_cut(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    running.instance.gate.clear()
    await tune(running, max_batch=2)
    lane = running.lane("double")
    first = calls(running, "double", {"numbers": [0]})
    await eventually(lambda: lane.busy == 1)
    waiting = calls(running, "double", {"numbers": [1, 2, 3, 4, 5]})
    await eventually(lambda: lane.queued == 1)
    await tune(running)
    running.instance.gate.set()
    assert [(await task).json() for task in (*first, *waiting)] == [[0], [2, 4, 6, 8, 10]]
    assert running.instance.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_batch_that_is_held_for_company_leaves_when_it_is_full(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    first = calls(running, "held", {"numbers": [1, 2, 3]})
    await eventually(lambda: len(running.lane("held")._gathered) == 1)
    second = calls(running, "held", {"numbers": [4, 5, 6, 7, 8]})
    assert [(await task).json() for task in (*first, *second)] == [[1, 2, 3], [4, 5, 6, 7, 8]]
    assert (await figures(running)).batches.count == 1


async def test_a_batch_that_is_held_for_company_leaves_when_it_may_not_be_held_so_long(
    serve: Any, eventually: Any
) -> None:
    running = await serve(Tuned)
    lane = running.lane("held")
    (call,) = calls(running, "held", {"numbers": [1]})
    await eventually(lambda: len(lane._gathered) == 1)
    await tune(running, max_wait_s=0)
    assert (await call).json() == [1]


async def test_fewer_slots_let_run_what_runs_and_begin_nothing_until_they_are_free(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    running.instance.gate.clear()
    lane = running.lane("work")
    begun = calls(running, "work", *[{}] * 4)
    await eventually(lambda: lane.busy == 4)
    await tune(running, concurrency=1)
    waiting = calls(running, "work", *[{}] * 3)
    await eventually(lambda: lane.queued == 3)
    assert (lane.slots, lane.busy, lane.in_flight) == (1, 4, 7)
    running.instance.gate.set()
    assert [(await task).json() for task in (*begun, *waiting)] == [1] * 7
    assert (lane.busy, lane.in_flight, lane.queued, lane.released) == (0, 0, 0, 7)


async def test_more_slots_wake_those_that_wait(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    running.instance.gate.clear()
    await tune(running, concurrency=1)
    for path, body in (("work", {}), ("pairs", {"numbers": [1] * 8})):
        lane = running.lane(path)
        begun = calls(running, path, body, body)
        await eventually(lambda lane=lane: (lane.busy, lane.queued) == (1, 1))
        await tune(running)
        await eventually(lambda lane=lane: (lane.busy, lane.queued) == (2, 0))
        await tune(running, concurrency=1)
        running.instance.gate.set()
        assert [(await task).status_code for task in begun] == [200, 200]
        running.instance.gate.clear()


async def test_work_counts_by_the_slots_that_there_were(serve: Any, eventually: Any) -> None:
    running = await serve(Tuned)
    running.instance.gate.clear()
    lane = running.lane("work")
    begun = calls(running, "work", {}, {})
    await eventually(lambda: lane.busy == 2)
    now = time.monotonic() + 1000  # later than anything that was counted
    assert lane.work_s(now + 8) - lane.work_s(now) == pytest.approx(4), "two of four slots"
    at = time.monotonic()
    counted_s = lane.work_s(at)
    running.serving.tune(Knobs(concurrency=1))
    later = time.monotonic()
    assert counted_s <= lane.work_s(later) <= counted_s + 1.01 * (later - at), "what was counted stays"
    assert lane.work_s(now + 8) - lane.work_s(now) == pytest.approx(8), "no lane works more than a second a second"
    running.instance.gate.set()
    await asyncio.gather(*begun)
    after = await figures(running)
    assert after.busy_s == after.calls_s > 0
    assert (await figures(running)).busy_s == after.busy_s


async def test_answers_are_counted_by_how_long_they_took_in_the_buckets_of_samples(serve: Any) -> None:
    running = await serve(Tuned)
    for _ in range(5):
        await running.client.post("/echo", json={"text": "a"})
    await running.client.post("/nowhere", json={})
    found = await figures(running)
    assert sum(found.latency.values()) == sum(found.codes.values()) == 6
    assert all(0 <= bucket < len(LATENCY_BOUNDS_S) // 2 for bucket in found.latency)


async def test_prometheus_and_the_agent_read_the_same_counts(serve: Any) -> None:
    running = await serve(Tuned)
    lane = running.lane("echo")
    for seconds in (0.0, 0.001, 0.0011, 0.0025, 0.0026, 0.3, 59.0, 61.0, 500.0):
        lane.figures.answered(200, seconds)
    coarse, fine = lane.figures.seconds, lane.figures.latency
    assert coarse.count == fine.count == 9
    assert coarse.total == fine.total
    below = dict(zip(coarse.bounds, coarse.counts, strict=False))
    assert (below[0.001], below[0.0025], below[0.005], below[0.5]) == (2, 2, 1, 1)
    assert (below[60.0], coarse.counts[-1]) == (1, 2)
    assert fine.counts[-1] == 1
