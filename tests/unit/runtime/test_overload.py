"""A replica with more calls than it can serve."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import kaon
from kaon.laws.admit import LearnedService
from kaon.runtime.call import Call
from kaon.types.key import Access, Grant, Priority, key_hash

KEYS = {
    "kaon_testing": Grant(hash=key_hash("kaon_testing"), key="tester"),
    "kaon_other": Grant(hash=key_hash("kaon_other"), key="other"),
    "kaon_high": Grant(hash=key_hash("kaon_high"), key="high", priority=Priority.HIGH),
    "kaon_low": Grant(hash=key_hash("kaon_low"), key="low", priority=Priority.LOW),
}
ACCESS = Access(grants=tuple(KEYS.values()))


@kaon.service
class Scarce:
    """One slot each; the first call holds it until the test lets go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []
        self.batches: list[list[str]] = []

    @kaon.endpoint(concurrency=1)
    async def plain(self, text: str) -> str:
        self.seen.append(text)
        await self.open.wait()
        return text

    @kaon.endpoint(batch=kaon.Batch(max_size=4))
    async def batched(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        self.seen += texts
        await self.open.wait()
        return texts


def ask(running: Any, path: str, text: str, key: str = "kaon_testing", **headers: str) -> asyncio.Task[Any]:
    body = {"text": text} if path == "/plain" else {"texts": [text]}
    return asyncio.create_task(
        running.client.post(path, json=body, headers={"authorization": f"Bearer {key}", **headers})
    )


@pytest.fixture(params=["/plain", "/batched"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def held(running: Any, path: str, eventually: Any) -> Any:
    """The lane of `path`, its slot taken."""
    lane = running.lane(path[1:])
    ask(running, path, "first")
    await eventually(lambda: lane.busy == 1)
    return lane


async def test_high_priority_goes_first_and_low_last(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    tasks = []
    for count, (text, key) in enumerate([("low", "kaon_low"), ("normal", "kaon_other"), ("high", "kaon_high")], 1):
        tasks.append(ask(running, path, text, key))
        await eventually(lambda count=count: lane.queued == count)
    running.instance.open.set()
    assert [(await task).status_code for task in tasks] == [200] * 3
    assert running.instance.seen == ["first", "high", "normal", "low"]


async def test_one_caller_cannot_take_the_whole_queue_from_others(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    lane.queue_bound = 20
    many = [ask(running, path, f"many{n}") for n in range(20)]
    await eventually(lambda: sum(task.done() for task in many) == 10)
    one = ask(running, path, "one", "kaon_other")
    await eventually(lambda: lane.queued == 11)
    running.instance.open.set()
    assert (await one).status_code == 200
    assert Counter([(await task).status_code for task in many]) == {200: 10, 429: 10}
    assert running.instance.seen.index("one") <= 2


async def test_a_call_whose_time_would_not_be_enough_any_more_is_not_begun(
    serve: Any, eventually: Any, path: str
) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    late = ask(running, path, "late", **{"x-request-timeout": "4"})
    fine = ask(running, path, "fine", "kaon_other")
    await eventually(lambda: lane.queued == 2)
    lane._service = LearnedService(20.0, 0.0, 100)
    running.instance.open.set()
    refused = await late
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert int(refused.headers["retry-after"]) >= refused.json()["retry_after_s"] > 0
    assert (await fine).status_code == 200
    assert "late" not in running.instance.seen
    await eventually(lambda: (lane.in_flight, lane.queued, lane.busy) == (0, 0, 0))


async def test_a_call_that_cannot_be_served_in_time_is_refused_when_it_comes(
    serve: Any, eventually: Any, path: str
) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    lane._service = LearnedService(2.0, 0.0, 100)
    refused = await ask(running, path, "hasty", **{"x-request-timeout": "3.5"})
    assert refused.status_code == 429
    patient = ask(running, path, "patient", **{"x-request-timeout": "4.5"})
    await eventually(lambda: lane.queued == 1)
    running.instance.open.set()
    assert (await patient).status_code == 200


async def test_what_will_ride_in_two_batches_is_not_refused_for_its_number(serve: Any, eventually: Any) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, "/batched", eventually)
    lane._service = LearnedService(1.0, 0.0, 100)
    riding = [ask(running, "/batched", str(n), **{"x-request-timeout": "4.8"}) for n in range(8)]
    await eventually(lambda: lane.queued == 8)  # two batches of one second, behind one; not eight of a second
    running.instance.open.set()
    assert [(await task).status_code for task in riding] == [200] * 8
    assert [len(batch) for batch in running.instance.batches] == [1, 4, 4]


async def test_overload_answers_429_and_never_503_whether_batching_is_on_or_not(
    serve: Any, eventually: Any, path: str
) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    lane.queue_bound = 8
    tasks = [ask(running, path, str(n)) for n in range(40)]
    await eventually(lambda: sum(task.done() for task in tasks) == 36)
    running.instance.open.set()
    answers = [await task for task in tasks]
    assert Counter(answer.status_code for answer in answers) == {200: 4, 429: 36}
    assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
    assert len({a.json()["retry_after_s"] for a in answers if a.status_code == 429}) > 10, "they come back at once"


async def test_callers_who_hang_up_show_how_long_callers_wait(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    lane._service = LearnedService(1.0, 0.0, 100)
    waiting = [ask(running, path, str(n)) for n in range(28)]
    await eventually(lambda: lane.queued == 28)
    left = Call(lane, KEYS["kaon_testing"], "", 60.0)
    left.entered_at -= 6.0  # more than five rounds, so that it is no accident
    lane.caller_left(left)
    assert (await ask(running, path, "more")).status_code == 429
    assert ask(running, path, "high", "kaon_high")
    await eventually(lambda: lane.queued == 29)
    running.instance.open.set()
    assert [(await task).status_code for task in waiting] == [200] * 28
    assert (await ask(running, path, "after")).status_code == 200


async def test_counts_do_not_leak_when_callers_leave_and_time_out(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Scarce, access=ACCESS)
    lane = await held(running, path, eventually)
    tasks = [ask(running, path, str(n), **{"x-request-timeout": "0.2"} if n % 3 == 0 else {}) for n in range(60)]
    await eventually(lambda: lane.queued == 60)
    for task in tasks[1::3]:
        task.cancel()
    await eventually(lambda: lane.queued == 20)
    running.instance.open.set()
    assert [(await task).status_code for task in tasks[2::3]] == [200] * 20
    await eventually(lambda: (lane.in_flight, lane.queued, lane.busy) == (0, 0, 0))
    assert {(await task).status_code for task in tasks[::3]} == {504}
