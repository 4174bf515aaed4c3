"""What the edge counts is what callers did and got, through a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx2
from tests.figures import Stopwatch
from tests.waiting import lasts, until

from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory, step
from kaon.clock import SystemClock
from kaon.edge.activator import Activator
from kaon.edge.waiting import HoldTerms
from kaon.laws.traffic import merge, quantile
from kaon.types.traffic import LATENCY_BOUNDS_S, Sample

from .test_edge_holding import Everybody
from .world import World

KEY = ("default", "shop", 1)


class Counter:
    """Samples of an edge, as an agent takes them but for replicas' own figures."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 0.0
        self.memory: TrafficHistory | None = None
        self.samples: list[Sample] = []

    async def look(self) -> None:
        self.now += 1.0
        look = TrafficReading(self.now, self.now, await self.world.edge.counts(), served=frozenset({KEY}))
        self.memory, samples = step("here", self.memory, look)
        self.samples += samples

    async def until(self, holds: Callable[[Sample], bool]) -> Sample:
        """Look until all that was counted is so; histograms come up to a second later than counters."""

        async def so() -> bool:
            await self.look()
            return bool(self.samples) and holds(merge(self.samples))

        with contextlib.suppress(TimeoutError):
            await until(so, 5)
        return merge(self.samples)

    async def answered(self, calls: int) -> Sample:
        return await self.until(lambda all_: sum((all_.codes or {}).values()) == calls)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the status in its path; `/slow` after the route's timeout, `/wait` when the test allows it."""
    code = scope["path"].rpartition("/")[2]
    if code == "slow":
        await lasts(1.0)
    if code == "tenth":
        await lasts(0.1)
    status = int(code) if code.isdecimal() else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def _counter(world: World, **fields: Any) -> Counter:
    await world.serve(*world.replicas, **fields)
    counter = Counter(world)
    await counter.look()
    return counter


async def test_arrivals_and_answers_by_class_are_what_a_client_sent_and_got(world: World) -> None:
    await world.replica("a", _app)
    await world.replica("b", _app)
    counter = await _counter(world, timeout_s=0.3)
    got: dict[int, int] = {}
    for code, calls in ((200, 30), (404, 3), (429, 2), (500, 4), ("slow", 1)):
        for answer in await asyncio.gather(*(world.client.post(f"/shop/{code}") for _ in range(calls))):
            got[answer.status_code] = got.get(answer.status_code, 0) + 1
    assert got == {200: 30, 404: 3, 429: 2, 500: 4, 504: 1}
    found = await counter.answered(40)
    assert found.codes == {"2xx": 30, "4xx": 3, "shed": 2, "5xx": 4, "none": 1}
    assert (found.arrivals, found.in_flight) == (40, 0)
    # The edge's own answer, to the call that took too long, is in no histogram.
    found = await counter.until(lambda all_: sum((all_.latency or {}).values()) == 39)
    assert sum((found.latency or {}).values()) == 39


async def test_calls_that_are_sent_again_count_once_and_with_what_came_of_them(world: World) -> None:
    tries = 0

    async def third_time(scope: Any, receive: Any, send: Any) -> None:
        nonlocal tries
        tries += 1
        status = 200 if tries % 3 == 0 else 503
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    await world.replica("a", third_time)
    await world.replica("b", third_time)
    counter = await _counter(world, retry_paths=("/",))
    answers = [await world.client.get("/shop") for _ in range(10)]
    assert [answer.status_code for answer in answers] == [200] * 10
    assert tries == 30
    found = await counter.answered(10)
    assert (found.arrivals, found.codes) == (10, {"2xx": 10})


async def test_calls_that_no_replica_answers_have_no_answer(world: World) -> None:
    killed = await world.replica("a", _app)
    alive = await world.replica("b", _app)
    counter = await _counter(world)
    await killed.stop()
    for _ in range(10):
        assert (await world.client.post("/shop/200")).status_code == 200  # those that met the killed one went on
    await alive.stop()
    for _ in range(5):
        assert (await world.client.post("/shop/200")).status_code == 503
    found = await counter.answered(15)
    assert (found.arrivals, found.codes) == (15, {"2xx": 10, "none": 5})


async def test_calls_to_a_deployment_without_replicas_arrive_too(world: World) -> None:
    counter = await _counter(world)
    for _ in range(3):
        assert (await world.client.get("/shop")).status_code == 503
    found = await counter.answered(3)
    assert (found.arrivals, found.codes, found.in_flight) == (3, {"none": 3}, 0)


async def test_calls_in_flight_are_counted_and_those_whose_caller_leaves_arrived_but_were_not_answered(
    world: World,
) -> None:
    await world.replica("a", _app)
    counter = await _counter(world)
    calls = [asyncio.ensure_future(world.client.post("/shop/slow")) for _ in range(5)]
    found = await counter.until(lambda all_: all_.in_flight == 5)
    assert (found.in_flight, found.arrivals, found.codes) == (5, 5, {})
    for call in calls[:2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    found = await counter.answered(3)
    assert (found.in_flight, found.arrivals, found.codes) == (0, 5, {"2xx": 3})


async def test_latencies_are_in_the_buckets_of_samples(world: World) -> None:
    await world.replica("a", _app)
    counter = await _counter(world)
    watch = Stopwatch()
    await asyncio.gather(*(world.client.post("/shop/tenth") for _ in range(20)))
    longest_s = min(bound for bound in LATENCY_BOUNDS_S if bound >= watch.seconds)
    found = await counter.until(lambda all_: sum((all_.latency or {}).values()) == 20)
    assert len(next(iter((await world.edge.counts()).clusters.values())).latency) == len(LATENCY_BOUNDS_S) + 1
    median = quantile(found.latency, 0.5)
    assert median is not None
    assert 0.09 < median <= longest_s


async def test_an_edge_that_was_killed_counts_on_from_zero(world: World) -> None:
    await world.replica("a", _app)
    counter = await _counter(world)
    for _ in range(7):
        await world.client.post("/shop/200")
    await counter.answered(7)
    await world.edge.stop()

    async def back() -> bool:
        try:
            return (await world.client.post("/shop/200")).status_code == 200
        except httpx2.TransportError:
            return False

    await until(back)
    for _ in range(8):
        await world.client.post("/shop/200")
    found = await counter.answered(16)
    assert (found.arrivals, found.codes) == (16, {"2xx": 16})


async def test_calls_that_wait_for_a_replica_arrive_once_and_are_answered_once(world: World) -> None:
    key = ("default", "shop")
    activator = Activator(SystemClock())
    running = asyncio.create_task(activator.run())
    await activator.open(key, world.edge.layout.activator(*key), HoldTerms(Everybody(), 20.0))
    counter = await _counter(world, hold_s=20.0)
    calls = [asyncio.ensure_future(world.client.post("/shop/200")) for _ in range(4)]
    found = await counter.until(lambda all_: all_.in_flight == 4)
    assert (found.arrivals, found.codes, found.in_flight) == (4, {}, 4)
    assert {s.revision for s in counter.samples if s.arrivals} == {0}
    replica = await world.replica("a", _app)
    activator.set_replicas(key, [replica.endpoint.address])
    await world.serve(replica, hold_s=20.0)
    assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * 4
    more = 0

    async def past_the_activator() -> bool:
        nonlocal more
        more += 1
        await world.client.post("/shop/200")
        await counter.look()
        return any(s.arrivals for s in counter.samples if s.revision == 1)

    await until(past_the_activator)
    found = await counter.answered(4 + more)
    assert (found.arrivals, found.codes, found.in_flight) == (4 + more, {"2xx": 4 + more}, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
