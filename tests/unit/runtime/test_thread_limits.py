"""A thread that cannot start costs a call, never a slot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kaon
from kaon.runtime.rows import RowSlice, SplitCall, joinable, joined


@kaon.service
class Threaded:
    @kaon.endpoint(concurrency=2)
    def call(self) -> str:
        return "done"

    @kaon.endpoint(concurrency=2, batch=kaon.Batch(max_size=2))
    def batch(self, rows: list[int]) -> list[int]:
        return rows

    @kaon.endpoint(concurrency=2)
    def stream(self) -> Iterator[int]:
        yield 1


BODIES: dict[str, Any] = {"call": {}, "batch": {"rows": [1, 2, 3, 4, 5]}, "stream": {}}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_thread_that_cannot_start_costs_no_slot(serve: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    running = await serve(Threaded)
    lane = running.lane(kind)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        answers = await asyncio.gather(*[running.client.post(f"/{kind}", json=BODIES[kind]) for _ in range(5)])
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "not-begun")}
    assert {"retry-after"} <= set(answers[0].headers)
    assert (lane.busy, lane.in_flight, lane.queued) == (0, 0, 0)
    again = await asyncio.gather(*[running.client.post(f"/{kind}", json=BODIES[kind]) for _ in range(5)])
    assert {answer.status_code for answer in again} == {200}


async def test_a_batch_of_many_rounds_does_not_recurse(serve: Any) -> None:
    @kaon.service
    class Blaming:
        @kaon.endpoint(batch=kaon.Batch(max_size=2000, max_wait_s=0.2))
        async def score(self, rows: list[int]) -> list[int]:
            if len(rows) > 1:
                raise kaon.ItemError("one of them is bad")
            return rows

    running = await serve(Blaming)
    answers = await asyncio.gather(*[running.client.post("/score", json={"rows": [n]}) for n in range(600)])
    assert [answer.json() for answer in answers] == [[n] for n in range(600)]
    assert running.lane("score").busy == 0


def test_arrays_of_callers_that_do_not_fit_are_batched_apart() -> None:
    sent = [np.array([[1, 2]]), np.array([[1, 2, 3]]), np.array([[1.5, 2.5]]), np.array([[3, 4]])]
    calls: list[Any] = [SimpleNamespace(arguments={"rows": rows}, rows=1) for rows in sent]
    parts = [RowSlice(SplitCall(call), 0, 1) for call in calls]
    assert [[parts.index(part) for part in group] for group in joinable(parts)] == [[0, 3], [1], [2]]
    assert joined(joinable(parts)[0])["rows"].tolist() == [[1, 2], [3, 4]]
