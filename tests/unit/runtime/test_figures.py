"""A replica's figures for the agent: running sums, exact to the call."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from tests.figures import Stopwatch
from tests.waiting import lasts

import kaon
from kaon.runtime.memory import EVERY_S, MemoryMeter, _resident, used
from kaon.runtime.request_checks import WRONG_KEYS
from kaon.types.figures import ReplicaFigures


@kaon.service
class Work:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches = 0

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint(concurrency=2)
    def wait(self) -> int:
        self.gate.wait(60)
        return 1

    @kaon.endpoint(concurrency=1, timeout_s=0.05)
    def one(self) -> int:
        self.gate.wait(60)
        return 1

    @kaon.endpoint(batch=kaon.Batch(max_size=4))
    async def batched(self, items: list[int]) -> list[int]:
        self.batches += 1
        await lasts(0.01)
        return items

    @kaon.endpoint
    async def count(self) -> Any:
        for i in range(2):
            yield i


async def figures(running: Any) -> ReplicaFigures:
    answer = await running.control_client.get("/figures")
    assert answer.status_code == 200
    return ReplicaFigures.model_validate_json(answer.content)


async def test_a_replica_that_was_not_called_has_worked_for_nothing(serve: Any) -> None:
    before = time.time()
    found = await figures(await serve(Work))
    assert (found.codes, found.in_flight, found.queued, found.began, found.busy_s, found.calls) == ({}, 0, 0, 0, 0, 0)
    assert found.batches.count == 0
    assert before <= found.began_at <= time.time()


NOT_CALLS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "a wrong key on the fast path": ("POST", "/echo", {"authorization": "Bearer wrong"}, "4xx"),
    "a wrong key past it": ("POST", "/e%63ho", {"authorization": "Bearer wrong"}, "4xx"),
    "no key": ("POST", "/echo", {"authorization": ""}, "4xx"),
    "a wrong key where nothing is": ("GET", "/nothing", {"authorization": "Bearer wrong"}, "4xx"),
    "the document": ("GET", "/openapi.json", {}, "2xx"),
    "its head": ("HEAD", "/openapi.json", {}, "2xx"),
    "the page": ("GET", "/docs", {}, "2xx"),
    "which verbs there are": ("OPTIONS", "/echo", {}, "2xx"),
}


@pytest.mark.parametrize("name", NOT_CALLS)
async def test_what_is_no_call_is_counted_apart(serve: Any, name: str) -> None:
    method, path, headers, code = NOT_CALLS[name]
    running = await serve(Work)
    await running.client.request(method, path, json={"text": "x"}, headers=headers)
    found = await figures(running)
    assert (found.codes, found.latency, found.not_calls) == ({}, {}, {code: 1})
    metrics = (await running.control_client.get("/metrics")).text
    assert sum(1 for line in metrics.splitlines() if line.startswith("kaon_requests_total{")) == 1


async def test_many_wrong_keys_are_not_taken_for_calls_that_were_too_many(serve: Any) -> None:
    running = await serve(Work)
    headers = {"authorization": "Bearer wrong", "x-forwarded-for": "6.6.6.6"}
    for _ in range(WRONG_KEYS + 5):
        await running.client.post("/echo", json={"text": "x"}, headers=headers)
    found = await figures(running)
    assert (found.codes, found.not_calls) == ({}, {"4xx": WRONG_KEYS, "429": 5})


@pytest.mark.parametrize("path", ["/echo", "/nothing", "/wait"])
async def test_what_a_caller_with_a_key_does_wrong_is_a_call(serve: Any, path: str) -> None:
    running = await serve(Work)
    await running.client.get(path)
    found = await figures(running)
    assert (found.codes, found.not_calls) == ({"4xx": 1}, {})


async def test_a_call_that_comes_before_its_replica_is_ready_is_a_call(serve: Any) -> None:
    running = await serve(Work, open_door=False)
    await running.client.post("/echo", json={"text": "x"})
    found = await figures(running)
    assert (found.codes, found.not_calls) == ({"503": 1}, {})


async def test_a_replica_tells_what_memory_it_and_its_children_use(serve: Any, eventually: Any) -> None:
    running = await serve(Work)
    memory = (await figures(running)).memory_bytes
    assert 10 * 2**20 < memory < 2**31
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "held = b'x' * 2**26; input()", stdin=asyncio.subprocess.PIPE
    )
    alone = _resident("self")
    await eventually(lambda: used() > alone + 2**26)
    child.kill()
    await child.wait()


async def test_memory_is_read_every_few_seconds_however_often_it_is_requested() -> None:
    memory = MemoryMeter()
    first = memory.read(0.0)
    held = b"x" * 2**26
    assert memory.read(EVERY_S - 1) == first
    assert memory.read(EVERY_S) > first + len(held) // 2


async def test_answers_count_by_class_also_of_requests_that_reach_no_endpoint(serve: Any) -> None:
    running = await serve(Work)
    await running.client.post("/echo", json={"text": "a"})
    await running.client.post("/echo", json={"text": 1})
    await running.client.post("/nowhere", json={})
    running.serving.checks.not_ready = "the service is stopping"
    await running.client.post("/echo", json={"text": "a"})
    assert (await figures(running)).codes == {"2xx": 1, "4xx": 2, "503": 1}


async def test_work_is_counted_while_it_lasts_and_in_the_end_to_the_call(serve: Any, eventually: Any) -> None:
    running = await serve(Work)
    watch = Stopwatch()
    calls = [asyncio.ensure_future(running.client.post("/wait", json={})) for _ in range(3)]
    await eventually(lambda: running.serving.queued == 1)
    await lasts(0.05)
    during = await figures(running)
    assert (during.in_flight, during.queued, during.began, during.calls) == (3, 1, 2, 0)
    assert 0.045 <= during.busy_s <= watch.seconds  # two of two slots
    assert during.queue_s == 0  # it has not begun
    running.instance.gate.set()
    await asyncio.gather(*calls)
    after = await figures(running)
    took = watch.seconds
    assert (after.in_flight, after.queued, after.began, after.calls) == (0, 0, 3, 3)
    assert during.busy_s < after.busy_s <= 2 * took
    assert 0.045 <= after.queue_s <= took
    assert (await figures(running)).busy_s == after.busy_s == after.calls_s
    assert after.began_at == during.began_at
    assert after.at_s > during.at_s


async def test_a_handler_that_outlives_its_caller_keeps_its_slot_busy(serve: Any, eventually: Any) -> None:
    running = await serve(Work)
    assert (await running.client.post("/one", json={})).status_code == 504
    first = await figures(running)
    assert (first.in_flight, first.began, first.calls) == (0, 1, 0)
    await lasts(0.02)
    assert (await figures(running)).busy_s >= first.busy_s + 0.02
    running.instance.gate.set()
    await eventually(lambda: running.lane("one").busy == 0)
    after = await figures(running)
    assert (after.calls, (await figures(running)).busy_s) == (1, after.busy_s)


async def test_batches_come_as_the_sums_that_a_line_is_fitted_from(serve: Any) -> None:
    running = await serve(Work)
    await running.client.post("/batched", json={"items": [1, 2, 3]})
    await running.client.post("/batched", json={"items": [1]})
    found = await figures(running)
    batches = found.batches
    assert (found.began, found.calls, batches.count, batches.rows, batches.rows_squared) == (2, 0, 2, 4, 10)
    assert batches.seconds >= 0.02
    assert batches.seconds < batches.rows_seconds < 3 * batches.seconds
    assert found.busy_s >= batches.seconds * 0.99
    assert found.queue_s < batches.seconds


async def test_a_call_of_more_rows_than_a_batch_holds_begins_once(serve: Any) -> None:
    running = await serve(Work)
    await running.client.post("/batched", json={"items": list(range(8))})
    found = await figures(running)
    assert (found.batches.count, found.batches.rows, found.began) == (2, 8, 1)


async def test_a_stream_is_busy_until_it_ends(serve: Any) -> None:
    running = await serve(Work)
    await running.client.post("/count", json={})
    found = await figures(running)
    assert (found.calls, found.began, found.in_flight, found.codes) == (1, 1, 0, {"2xx": 1})
