"""From traffic to replicas and back: the real reconcilers over a simulated cloud, second by second."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from tests.replicas import status_of
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control.deployments import DeploymentController
from kaon.control.scaling import ENTRIES, TICK_S, ScalingController
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.port import AnyResource
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types import deployment as spec
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, Rollout, RolloutState, Template
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.plan import Report
from kaon.types.replica import Phase
from kaon.types.service import EndpointSpec, ServiceSpec
from kaon.types.traffic import LATENCY_BOUNDS_S, ColdStart, Sample, Traffic
from kaon.types.tuning import Reach, TrialStatus, TuningStatus

SHOP = ("default", "shop")
DIGEST = f"sha256:{'0' * 64}"
START_S = 3.0
CALL_S = 0.1
"""What a call costs, so that a replica serves ten a second."""

Replica = tuple[int, int]


class World:
    """A cloud whose replicas serve a load, its agent in a few lines, and the reconcilers, each looked at by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.ring = TrafficRing()
        self.live_status = LiveStatus()
        self.deployments = DeploymentController(self.store, Vault(bytes(32)), self.clock)
        self.scaling = ScalingController(self.store, self.clock, self.ring, self.live_status)
        self.begun: dict[Replica, float] = {}
        self.broken: Callable[[int, int], bool] = lambda revision, ordinal: False
        self.queue = 0.0
        self.version = -1
        self.silent = False
        self.wanted: list[int] = []
        self.readies: list[int] = []

    async def deploy(self, low: int = 1, high: int = 10, number: int = 0, **more: object) -> None:
        if await self.store.find("cloud", "", "local") is None:
            await self.store.create("cloud", "", "local", CloudSpec())
            endpoint = EndpointSpec(name="buy", method="POST", path="/buy", concurrency=1)
            objective = Objective(latency_s=0.4)
            service = ServiceSpec(name="shop", entry="shop:Shop", endpoints=(endpoint,), objective=objective)
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            artifact = ArtifactSpec(digest=DIGEST, manifest=manifest, size_bytes=1)
            await self.store.create("artifact", "default", DIGEST, artifact)
        wanted = DeploymentSpec(
            template=Template(artifact=DIGEST, env={"NUMBER": str(number)}),
            scaling=spec.Scaling(min=low, max=high, **more),
            rollout=Rollout(progress_deadline_s=60),
        )
        found = await self.store.find("deployment", *SHOP)
        if found is None:
            await self.store.create("deployment", *SHOP, wanted)
        else:
            await self.store.update_spec(found, wanted)
        await self.settle()

    async def shop(self) -> AnyResource:
        return await self.store.get("deployment", *SHOP)

    async def settle(self) -> None:
        """Every reconciler looks at what changed, until nothing does."""
        while self.version < (version := await self.store.version()):
            changes = [group async for group in self._changed()]
            self.version = version
            for group in changes:
                for reconciler in (self.scaling, self.deployments):
                    for key in await reconciler.affected(group):
                        await reconciler.reconcile(key)

    async def _changed(self) -> Sequence[object]:
        async for group in self.store.watch(self.version):
            yield group
            return

    async def live(self, seconds: int, rps: float | Callable[[float], float] = 0.0) -> None:
        """Let time pass under a load."""
        for second in range(seconds):
            await self.clock.advance(1)
            await self.obey()
            self.serve(rps(second) if callable(rps) else rps)
            await self.report()
            await self.settle()
            if second % TICK_S == 1:
                await self.scaling.tick()
                await self.settle()
            status = (await self.shop()).status.rollout
            self.wanted.append(sum(a.replicas for a in status.assignments))
            self.readies.append(self.ready())

    async def obey(self) -> None:
        status = (await self.shop()).status.rollout
        assigned = {(a.revision, o) for a in status.assignments for o in a.ordinals}
        self.begun = {r: self.begun.get(r, self.clock.now()) for r in assigned}

    def phase(self, replica: Replica) -> Phase:
        if self.broken(*replica):
            return Phase.CRASHED
        return Phase.READY if self.clock.now() - self.begun[replica] >= START_S else Phase.STARTING

    def ready(self) -> int:
        return sum(self.phase(r) is Phase.READY for r in self.begun)

    def serve(self, rps: float) -> None:
        ready, now = self.ready(), self.clock.now()
        self.queue += rps
        served = min(self.queue, ready / CALL_S)
        self.queue -= served
        wait_s = CALL_S + (self.queue * CALL_S / ready if ready else 0.0)
        bucket = bisect_left(LATENCY_BOUNDS_S, wait_s)
        calls = round(served)
        starts = [f"{r}-{o}" for (r, o), at in self.begun.items() if now - at == START_S and not self.broken(r, o)]
        sample = Sample(
            workspace="default",
            deployment="shop",
            revision=max((r for r, _ in self.begun), default=0),
            at_s=now,
            span_s=1.0,
            arrivals=round(rps),
            codes={"2xx": calls},
            latency={bucket: calls} if calls else {},
            in_flight=round(self.queue + served * CALL_S),
            queued=round(self.queue),
            busy_s=served * CALL_S if served else math.nan,  # a mean of nothing
            batches=Batches(
                count=calls, rows=calls, seconds=calls * CALL_S, rows_squared=calls, rows_seconds=calls * CALL_S
            ),
            ready=ready,
            starting=len(self.begun) - ready,
            held=0 if ready else math.ceil(self.queue),
            starts=tuple(ColdStart(replica=name, start_s=START_S) for name in starts),
        )
        if not self.silent:
            self.ring.add(Traffic(cloud="local", samples=(sample,)))

    async def report(self) -> None:
        shop = await self.shop()
        replicas = tuple(
            status_of(
                shop.uid,
                revision,
                ordinal,
                self.phase((revision, ordinal)),
                since=at,
                restarts=9 if self.broken(revision, ordinal) else 0,
            )
            for (revision, ordinal), at in self.begun.items()
        )
        held = math.ceil(self.queue) if not self.ready() else 0
        report = Report(cloud="local", replicas=replicas, held={"default/shop": held} if held else {})
        cloud = await self.store.get("cloud", "", "local")
        await self.store.update_status(cloud, CloudStatus(report=report))

    async def decisions(self) -> list[tuple[str, str, str]]:
        return [(e.before, e.after, e.reason) for e in await self.store.journal(*SHOP, concern="scaling")]

    def changes(self) -> int:
        return sum(one != other for one, other in pairwise(self.wanted))


@pytest.fixture
async def world() -> World:
    return World()


async def test_replicas_follow_the_load_within_their_bounds(world: World) -> None:
    await world.deploy(1, 6)
    await world.live(120, 8)
    assert world.wanted[-1] <= 3
    await world.live(120, 40)
    assert 5 <= world.wanted[-1] <= 6
    assert world.queue < 10
    await world.live(900, 2)
    assert world.wanted[-1] <= 2
    assert max(world.wanted) <= 6


async def test_each_number_is_in_the_journal_with_its_figures(world: World) -> None:
    await world.deploy(1, 6)
    await world.live(60, 40)
    entries = await world.store.journal(*SHOP, concern="scaling")
    changes = [(e.before, e.after) for e in entries if e.before != e.after]
    assert changes[0][0] == "1"
    assert all(after == before for (_, after), (before, _) in pairwise(changes))
    shop = await world.shop()
    last = [e for e in entries if e.before != e.after][-1]
    assert (last.after, last.reason) == (str(shop.status.scaling.wanted), shop.status.scaling.reason)
    assert "calls/s at" in entries[-1].reason
    assert entries[-1].figures["rps"] == pytest.approx(40, abs=2)
    assert entries[-1].figures["call_s"] > 0


async def test_zero_traffic_without_figures_to_divide_by_still_scales_down(world: World) -> None:
    """Elsewhere: scale-down skipped because metrics are NaN at zero traffic."""
    await world.deploy(1, 10)
    await world.live(120, 50)
    assert world.wanted[-1] > 4
    await world.live(600, 0)
    assert world.wanted[-1] == 1


async def test_a_replica_that_cannot_start_blocks_no_later_decision(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(120, 15)
    next_one = world.ready()
    world.broken = lambda revision, ordinal: ordinal == next_one
    await world.live(120, 35)
    up = world.wanted[-1]
    assert up > 3
    assert max(world.readies[-120:]) == max(world.wanted[-120:]) - 1
    await world.live(60, 60)
    assert world.wanted[-1] > up
    await world.live(900, 5)
    assert world.wanted[-1] <= 2
    assert world.ready() >= 1


@pytest.mark.parametrize("rps", [6.5, 7.0, 8.5, 9.5])
async def test_a_load_between_one_replica_and_two_does_not_swing(world: World, rps: float) -> None:
    await world.deploy(1, 10)
    await world.live(300, lambda second: rps + (second * 7 % 3 - 1))
    world.wanted.clear()
    await world.live(900, lambda second: rps + (second * 7 % 3 - 1))
    assert world.changes() <= 2


async def test_no_load_never_scales_up(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(300, 0)
    assert set(world.wanted) == {1}
    assert [d for d in await world.decisions() if d[0] != d[1]] == []


async def test_without_figures_nothing_goes_down(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(120, 50)
    up = world.wanted[-1]
    world.silent = True
    await world.live(600, 50)
    assert set(world.wanted[-600:]) == {up}
    assert (await world.decisions())[-1] == (str(up), str(up), "no figures: unchanged")
    world.silent = False
    await world.live(900, 5)
    assert world.wanted[-1] < up / 2


async def test_one_failed_replica_is_not_the_end_of_the_others(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(120, 25)
    up, before = world.wanted[-1], world.ready()
    world.broken = lambda revision, ordinal: ordinal == 0
    await world.live(60, 25)
    assert world.wanted[-1] >= up
    assert world.ready() >= before - 1


async def test_a_failed_new_version_leaves_the_healthy_one_and_its_scaling_alone(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(120, 25)
    before = world.ready()
    world.broken = lambda revision, ordinal: revision == 2
    await world.deploy(1, 10, number=1)
    await world.live(30, 25)
    assert min(world.readies[-30:]) >= before
    shop = await world.shop()
    assert (shop.status.rollout.state, shop.status.rollout.stable) == (RolloutState.STOPPED, 1)
    await world.live(60, 50)
    assert world.ready() > before
    await world.live(900, 2)
    assert world.ready() <= 2


async def test_a_rollout_waits_for_no_load_and_a_scale_down_waits_for_the_rollout(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(200, 50)
    up = world.ready()
    await world.deploy(1, 10, number=1)
    await world.live(10, 50)
    status = (await world.shop()).status.rollout
    assert len(status.assignments) == 2, "the rollout is over too soon for this test"
    await world.live(200, 80)
    assert world.ready() > up
    status = (await world.shop()).status.rollout
    assert (status.state, status.stable) == (RolloutState.STABLE, 2)
    assert min(world.readies[-210:]) >= up


async def test_the_last_replica_stops_without_calls_and_starts_again_with_them(world: World) -> None:
    await world.deploy(0, 5, keep_alive_s=30)
    await world.live(20, 0)
    assert world.ready() == 1, "a new deployment proves itself"
    await world.live(30, 5)
    await world.live(28, 0)
    assert world.ready() >= 1
    await world.live(6, 0)
    assert (world.ready(), world.wanted[-1]) == (0, 0)
    await world.live(300, 0)
    assert set(world.wanted[-300:]) == {0}
    await world.live(1, 3)
    assert world.wanted[-1] == 1
    await world.live(10, 3)
    assert world.ready() >= 1
    told = await world.decisions()
    assert any(after == "0" and "no call for" in why for _, after, why in told)
    assert ("0", "1", "3 callers wait for a replica") in told


async def test_a_deployment_that_was_woken_is_not_sent_back_by_figures_from_before(world: World) -> None:
    await world.deploy(0, 5, keep_alive_s=30)
    await world.live(10, 1)
    await world.live(120, 0)
    assert world.ready() == 0
    world.silent = True  # the agent told who waits, and its figures come later
    await world.live(1, 1)
    await world.scaling.tick()
    assert (await world.shop()).status.scaling.wanted == 1
    world.silent = False
    await world.live(20, 1)
    assert world.ready() >= 1


async def test_what_was_learnt_is_learnt_again_after_a_restart(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(400, lambda second: 30 + 10 * (second % 7 == 0))
    up = world.wanted[-1]
    world.scaling = ScalingController(world.store, world.clock, world.ring, LiveStatus())
    for key in await world.scaling.keys():
        await world.scaling.reconcile(key)
    await world.live(120, lambda second: 30 + 10 * (second % 7 == 0))
    assert min(world.wanted[-120:]) >= up - 1
    assert max(world.wanted[-120:]) <= up + 1


async def test_idle_gaps_of_earlier_days_are_loaded_after_a_restart(world: World) -> None:
    await world.deploy(0, 10)
    await world.clock.advance(86_400)
    began = world.clock.now() - 80_000
    minutes = [
        Sample(workspace="default", deployment="shop", revision=1, at_s=began + 1000 * n, span_s=60, arrivals=5)
        for n in range(60)
    ]
    await world.store.keep_traffic(minutes)
    world.scaling = ScalingController(world.store, world.clock, world.ring, world.live_status)
    await world.scaling.reconcile(SHOP)
    await world.live(10, 0)
    entry = world.live_status.of(*SHOP)
    assert entry is not None
    assert entry.figures["gaps"] == 59


async def test_a_write_that_meets_anothers_is_made_at_the_next_tick(world: World) -> None:
    await world.deploy(1, 10)
    await world.live(61, 30)
    up = world.wanted[-1]
    shop = await world.shop()
    await world.store.update_status(shop, status_with(shop.status, wanted=1))  # unseen by the controller
    await world.scaling.tick()
    assert (await world.shop()).status.scaling.wanted == 1
    await world.settle()
    await world.live(5, 30)
    assert (await world.shop()).status.scaling.wanted > up / 2


async def test_no_law_decides_on_fixed_and_switched_off_deployments(world: World) -> None:
    await world.deploy(2, 2)
    await world.live(30, 100)
    assert world.wanted[-1] == 2
    await world.deploy(0, 0)
    await world.live(10, 100)
    assert world.wanted[-1] == 0
    assert await world.decisions() == []
    assert world.live_status.of(*SHOP) is None


async def test_more_than_nothing_is_kept_by_a_floor(world: World) -> None:
    floor = spec.Floor(replicas=4, start="00:00", end="00:00")
    await world.deploy(1, 10, floors=(floor,))
    await world.live(10, 0)
    assert world.wanted[-1] == 4


async def test_the_law_goes_by_what_is_tuned_and_by_a_turn_until_it_is_over() -> None:
    world = World()
    await world.deploy()
    await world.live(10, rps=20)
    session = world.scaling.session(SHOP)
    assert session is not None
    assert session.law.margin == 1.0
    trial = TrialStatus(reach=Reach.POOL, after={"margin": 1.3}, since=0.0, until=world.clock.now() + 20)
    tuned = TuningStatus(values={"budget_share": 0.5}, trial=trial)
    shop = await world.shop()
    await world.store.update_status(shop, shop.status.model_copy(update={"tuning": tuned}))
    await world.settle()
    assert world.scaling.session(SHOP) is session  # what was learnt stays
    assert (session.law.margin, session.law.budget_share) == (1.3, 0.5)
    again = await world.scaling.reconcile(SHOP)
    assert again is not None
    await world.clock.advance(again.after_s)
    assert await world.scaling.reconcile(SHOP) is None
    assert (session.law.margin, session.law.budget_share) == (1.0, 0.5)


async def test_snapshots_are_taken_every_five_minutes_and_kept_for_half_an_hour() -> None:
    world = World()
    await world.deploy()
    await world.live(2400, rps=20)
    session = world.scaling.session(SHOP)
    assert session is not None
    stood = list(session.snapshots)
    assert [b.at_s - a.at_s for a, b in pairwise(stood)] == pytest.approx([300.0] * 6, abs=TICK_S)
    assert all(s.state.service.learned and s.ready for s in stood[1:])


async def test_reasons_that_change_no_number_come_to_the_journal_a_bounded_number_a_tick() -> None:
    clock, ring = FakeClock(), TrafficRing()
    store = MemoryStore(clock)
    scaling = ScalingController(store, clock, ring, LiveStatus())
    names = [f"d{number}" for number in range(ENTRIES + 7)]
    for name in names:
        wanted = DeploymentSpec(template=Template(artifact=DIGEST), scaling=spec.Scaling(min=1, max=9))
        await store.create("deployment", "default", name, wanted, DeploymentStatus(stable=1, target=1, wanted=1))
        await scaling.reconcile(("default", name))
    await scaling.tick()  # the first kind of reason, that there are no figures, is not told
    found = []
    for _ in range(3):
        await clock.advance(2)
        samples = [
            Sample(workspace="default", deployment=name, revision=1, at_s=clock.now(), span_s=2.0, arrivals=1)
            for name in names
        ]
        ring.add(Traffic(cloud="local", samples=tuple(samples)))
        await scaling.tick()
        found.append(sum([len(await store.journal("default", name)) for name in names]))
    assert found == [ENTRIES, len(names), len(names)]
