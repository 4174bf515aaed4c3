"""The observer's shell: it looks, keeps, and sends what the control plane lacks."""

from __future__ import annotations

import asyncio

import pytest
from tests.replicas import replica_status, route_to
from tests.waiting import turns

from kaon.agent.traffic import observer as module
from kaon.agent.traffic.observer import Observer
from kaon.clock import FakeClock
from kaon.edge.counts import ClusterCounts, EdgeCounts
from kaon.errors import Unavailable
from kaon.store.traffic import TrafficRing
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.model import Address
from kaon.types.plan import Plan
from kaon.types.replica import Phase
from kaon.types.traffic import Traffic, TrafficTaken

ROUTE, EMPTY = route_to(1), route_to(deployment="idle")
PLAN = Plan(cloud="here", routes=(ROUTE, EMPTY))


class World:
    """An edge that gets ten calls a second, a replica, and a control plane."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ring = TrafficRing()
        self.posts: list[Traffic] = []
        self.sizes: list[int] = []
        self.away = self.silent = self.broken = self.deaf = False
        self.held: dict[str, int] = {}
        self.asked: list[Address] = []
        self.gone: list[Address] = []

    async def counts(self) -> EdgeCounts:
        if self.broken:
            raise RuntimeError("a bug")
        if self.silent:
            raise Unavailable("silent")
        calls = round(10 * self.clock.monotonic())
        return EdgeCounts(1, {"default~shop~1": ClusterCounts(attempts=calls)})

    async def figures(self, address: Address) -> ReplicaFigures:
        self.asked.append(address)
        now = self.clock.monotonic()
        return ReplicaFigures(began_at=1, at_s=now, busy_s=now / 2)

    def let_go(self, address: Address) -> None:
        self.gone.append(address)

    async def traffic(self, body: bytes) -> TrafficTaken:
        if self.away:
            raise Unavailable("away")
        self.posts.append(Traffic.model_validate_json(body))
        self.sizes.append(len(body))
        taken = 0.0 if self.deaf else self.ring.add(self.posts[-1], self.clock.now())
        return TrafficTaken(until_s=taken)

    def arrived(self) -> int:
        return sum(s.arrivals or 0 for s in self.ring.since("default", "shop", 0))


def observer(world: World) -> Observer:
    made = Observer("here", world, world, world.clock, replicas=world, held=lambda: world.held)
    made.update(PLAN, {"a": "unix:/a"}, [replica_status()])
    return made


async def pass_time(world: World, seconds: float) -> None:
    for _ in range(round(seconds * 4)):
        await world.clock.advance(0.25)
        await turns(20)


async def running(world: World, seconds: float) -> tuple[Observer, asyncio.Task[None]]:
    made = observer(world)
    task = asyncio.create_task(made.run())
    await turns(5)
    await pass_time(world, seconds)
    return made, task


async def test_every_second_each_revision_has_a_sample_also_where_nothing_is_deployed() -> None:
    world = World()
    _, task = await running(world, 10)
    assert len(world.ring.since("default", "shop", 0)) == 9  # the first look is what the second one is held against
    (first, *_) = world.ring.since("default", "shop", 0)
    assert (first.cloud, first.arrivals, first.ready, first.busy_s) == ("here", 10, 1, 0.5)
    assert {s.revision for s in world.ring.since("default", "idle", 0)} == {0}
    task.cancel()


async def test_a_control_plane_that_forgot_gets_all_again() -> None:
    world = World()
    _, task = await running(world, 30)
    before = world.arrived()
    world.ring = TrafficRing()
    await pass_time(world, 3)
    assert world.arrived() == before + 30
    assert world.posts[-1].after_s > 0
    task.cancel()


async def test_while_the_control_plane_is_away_half_an_hour_is_kept_for_it() -> None:
    world = World()
    made, task = await running(world, 5)
    world.away = True
    await pass_time(world, 300)
    assert world.arrived() == 40
    world.away = False
    await pass_time(world, 10)
    assert world.arrived() == sum(s.arrivals or 0 for s in made.ring.since("default", "shop", 0))
    assert world.arrived() == 3140
    task.cancel()


async def test_posts_are_bounded_and_go_on_until_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.away = True
    made, task = await running(world, 100)
    task.cancel()
    world.away = False
    monkeypatch.setattr(module, "POST_BYTES", 2_000)
    while await made.send():
        pass
    assert len(world.posts) > 5
    assert max(world.sizes) < 2_500
    assert world.arrived() == 990


async def test_a_control_plane_that_takes_nothing_is_not_asked_without_end() -> None:
    world = World()
    world.deaf = True
    _, task = await running(world, 10)
    assert len(world.posts) <= 10
    task.cancel()


async def test_a_silent_edge_leaves_a_gap_that_the_next_sample_spans() -> None:
    world = World()
    _, task = await running(world, 5)
    world.silent = True
    await pass_time(world, 2)
    world.silent = False
    await pass_time(world, 3)
    assert [s.span_s for s in world.ring.since("default", "shop", 0)] == [1, 1, 1, 1, 3, 1, 1]
    assert world.arrived() == 90
    task.cancel()


async def test_a_fault_in_counting_ends_nothing() -> None:
    world = World()
    _, task = await running(world, 3)
    world.broken = True
    await pass_time(world, 2)
    world.broken = False
    await pass_time(world, 5)
    assert not task.done()
    assert world.arrived() > 50
    task.cancel()


async def test_replicas_that_are_gone_are_let_go_and_callers_who_wait_are_told() -> None:
    world = World()
    made, task = await running(world, 3)
    world.held = {"default/shop": 4}
    made.update(PLAN, {}, [])
    await pass_time(world, 2)
    assert world.gone == ["unix:/a"]
    last = [s for s in world.ring.since("default", "shop", 0) if s.revision == 0][-1]
    assert last.held == 4
    task.cancel()


async def test_a_start_that_was_over_while_the_edge_was_silent_is_told_with_the_next_sample() -> None:
    world = World()
    made, task = await running(world, 3)
    world.silent = True
    for phase, since in ((Phase.INSTALLING, 1.0), (Phase.LOADING, 3.0), (Phase.READY, 7.0)):
        made.update(PLAN, {}, [replica_status().model_copy(update={"id": "b", "phase": phase, "since": since})])
    await pass_time(world, 1.5)
    world.silent = False
    await pass_time(world, 3)
    starts = [start for s in world.ring.since("default", "shop", 0) for start in s.starts]
    assert [(s.replica, s.install_s, s.load_s) for s in starts] == [("b", 2, 4)]
    task.cancel()


async def test_while_some_replicas_try_other_knobs_samples_have_sides() -> None:
    world = World()
    made, task = await running(world, 3)
    tried = PlannedKnobs(trial=Knobs(max_batch=2), replicas=("a",))
    made.update(PLAN.model_copy(update={"knobs": {"default/shop": tried}}), {"a": "unix:/a"}, [replica_status()])
    await pass_time(world, 2)
    made.update(PLAN, {"a": "unix:/a"}, [replica_status()])
    await pass_time(world, 2)
    sides = [sample.sides for sample in world.ring.since("default", "shop", 0) if sample.revision == 1]
    assert [len(found) for found in sides] == [0, 0, 1, 1, 0, 0]
    assert (sides[2][0].replicas, sides[2][0].busy_s) == (1, 0.5)
    task.cancel()


async def test_it_knows_when_the_control_plane_took_a_post_last() -> None:
    world = World()
    made, task = await running(world, 5)
    answered_at = made.answered_at
    assert world.clock.monotonic() - 1.25 <= answered_at <= world.clock.monotonic()
    world.away = True
    await pass_time(world, 20)
    assert made.answered_at == answered_at
    task.cancel()
