"""The live tuner over a store and a clock: what it tries, keeps and takes back, and what others may write meanwhile."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control.scaling import TICK_S, ScalingController
from kaon.control.tune.controller import PATIENCE_S, SHARE, TuningController
from kaon.control.tune.inputs import TunerInputs
from kaon.control.tune.twin_port import TwinPort
from kaon.errors import Unavailable
from kaon.laws.tune import guard, record, values_in_force
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Proposal
from kaon.laws.tune.gate import GateVerdict
from kaon.laws.tune.guard import TICK_S as LOOK_S
from kaon.laws.tune.knobs_of import planned, replica_knobs
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.port import AnyResource
from kaon.store.traffic import TrafficRing
from kaon.store.writes import UpdateStatus, Write
from kaon.testing.twins import FakeTwin
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    DeploymentStatus,
    RolloutState,
    ScalingStatus,
    Template,
    with_commands,
)
from kaon.types.deployment import Scaling as Bounds
from kaon.types.knobs import KnobValues
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.traffic import LATENCY_BOUNDS_S, Sample, Side, Traffic
from kaon.types.tuning import (
    Reach,
    TrialStatus,
    TunerAction,
    TunerCommand,
    TuningMode,
    TuningSpec,
    TuningState,
    TuningStatus,
)

DIGEST = f"sha256:{'0' * 64}"
LEARNT = 1560
"""Seconds after which the twin is asked."""


@dataclass
class Truth:
    """How replicas with some knobs serve."""

    latency_s: float = 0.2
    failed: float = 0.0
    work_s: float = 0.1
    """Of a call, replica-seconds."""
    ended: int = 0


def as_it_is(values: KnobValues) -> Truth:
    return Truth()


def promising(after: KnobValues, gain: float = 0.1) -> Callable[[TwinQuery], TwinResult]:
    """A twin that promises a gain of `after`, and foresees every minute alike."""

    def answer(ask: TwinQuery) -> TwinResult:
        if ask.foresee_s is not None:
            return TwinResult(ask.search, foreseen=((ask.force, 2.0),), reference_s=0.15)
        wanted = {**ask.force, **(after if ask.attempt is None else ask.attempt)}
        found = Proposal(ask.force, wanted, GateVerdict(True, gain, gain / 2, f"gain {gain:.1%}"), gain * 1.5, ())
        return TwinResult(ask.search, found, reference_s=0.15, cpu_s=1.5)

    return answer


def finding_nothing(ask: TwinQuery) -> TwinResult:
    """A twin that finds nothing better, and remembers how often."""
    after = ask.attempt or ask.force
    search = replace(ask.search, epoch=ask.search.epoch + 1, still=ask.search.still + 1)
    return TwinResult(search, Proposal(ask.force, after, GateVerdict(False, 0.0, 0.0, "no gain"), 0.0, ()))


class World:
    """A deployment of ten replicas that serves as `truth` says, and the reconcilers that its tuner needs."""

    def __init__(self, twin: TwinPort | None = None) -> None:
        self.clock = FakeClock(1_700_000_040.0)
        self.store = MemoryStore(self.clock)
        self.ring, self.twin = TrafficRing(), twin
        self.truth: Callable[[KnobValues], Truth] = as_it_is
        self.rps, self.ready, self.shed = 50, 10, 0
        self.late_s = 0.0
        """By how much earlier than a look a second of samples ends."""
        self.start()

    def start(self) -> None:
        """A control plane starts, anew."""
        self.live_status = LiveStatus()
        self.scaling = ScalingController(self.store, self.clock, self.ring, self.live_status)
        self.tuning = TuningController(self.store, self.clock, self.ring, self.live_status, self.scaling, self.twin)
        self.version = -1

    async def deploy(self, name: str = "shop", mode: TuningMode = TuningMode.RECOMMEND, **scaling: Any) -> None:
        if await self.store.find("artifact", "default", DIGEST) is None:
            endpoint = EndpointSpec(name="buy", method="POST", path="/buy", batch=Batch(max_size=32, max_wait_s=0.05))
            service = ServiceSpec(name="shop", entry="s:S", endpoints=(endpoint,), objective=Objective(latency_s=0.5))
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            artifact = ArtifactSpec(digest=DIGEST, manifest=manifest, size_bytes=1)
            await self.store.create("artifact", "default", DIGEST, artifact)
        spec = DeploymentSpec(
            template=Template(artifact=DIGEST),
            tuning=TuningSpec(mode=mode),
            scaling=Bounds(**{"min": 1, "max": 20} | scaling),
        )
        await self.store.create("deployment", "default", name, spec, self.stable(1))
        await self.settle()

    def stable(self, generation: int) -> DeploymentStatus:
        ordinals = tuple(range(self.ready))
        serving = Assignment(revision=1, replicas=self.ready, ordinals=ordinals, ready=self.ready, weight=100)
        return status_with(
            observed_generation=generation,
            state=RolloutState.STABLE,
            stable=1,
            target=1,
            assignments=(serving,) if self.ready else (),
            wanted=self.ready,
        )

    async def shop(self, name: str = "shop") -> AnyResource:
        return await self.store.get("deployment", "default", name)

    async def tuned(self, name: str = "shop") -> TuningStatus:
        status: TuningStatus = (await self.shop(name)).status.tuning
        return status

    async def command(self, action: TunerAction, values: KnobValues | None = None, by: str = "ann") -> None:
        """Write a request to the tuner into the spec, as the API does."""
        await self.write_command(action, values, by)
        await self.settle()

    async def write_command(self, action: TunerAction, values: KnobValues | None = None, by: str = "ann") -> None:
        shop = await self.shop()
        waiting = values_in_force.pending(shop.status.tuning, shop.spec.tuning.commands)
        last = max(shop.status.tuning.command, *(command.id for command in waiting), 0)
        command = TunerCommand(id=last + 1, action=action, values=values or {}, at=self.clock.now(), by=by)
        await self.store.update_spec(shop, with_commands(shop.spec, (*waiting, command)))

    async def attempt(self, **values: float) -> None:
        await self.command(TunerAction.TRY, values)

    async def undo(self, by: str = "ann") -> None:
        shop = await self.shop()
        undo = values_in_force.undo(values_in_force.commanded(shop.status.tuning, shop.spec.tuning.commands))
        if undo is not None:
            await self.command(*undo, by)

    async def stand(self, **changes: Any) -> None:
        """Let the rest of the status be so."""
        shop = await self.shop()
        await self.store.update_status(shop, status_with(shop.status, **changes))
        await self.settle()

    async def respec(self, **changes: Any) -> None:
        shop = await self.shop()
        await self.store.update_spec(shop, shop.spec.model_copy(update=changes))
        await self.settle()

    async def settle(self) -> None:
        while self.version < (version := await self.store.version()):
            changes = [change async for group in self._changed() for change in group]
            self.version = version
            for reconciler in (self.scaling, self.tuning):
                for key in await reconciler.affected(changes):
                    await reconciler.reconcile(key)

    async def _changed(self) -> Any:
        async for group in self.store.watch(self.version):
            yield group
            return

    async def live(self, seconds: int) -> None:
        """Let time pass under load."""
        for _ in range(seconds):
            await self.clock.advance(1)
            deployments = await self.store.list_all("deployment")
            samples = tuple(self.sample(deployment) for deployment in deployments)
            self.ring.add(Traffic(cloud="local", after_s=self.ring.until("local"), samples=samples), self.clock.now())
            passed = round(self.clock.monotonic())
            if passed % TICK_S == 0:
                await self.scaling.tick()
            if passed % LOOK_S == 0:
                await self.tuning.tick()
                await self.tuning.query_results()
            await self.settle()

    def sample(self, deployment: AnyResource) -> Sample:
        """A second."""
        now, tuning = self.clock.now(), deployment.status.tuning
        ids = [str(i) for i in range(self.ready)]
        knobs = planned(tuning, ids, now)
        trying = 0 if knobs is None or knobs.trial is None else len(ids if knobs.replicas is None else knobs.replicas)
        force = tuning.values if trying else values_in_force.in_force(tuning, now)
        told = [self.side(force, self.ready - trying)]
        if trying:
            told.append(self.side({**tuning.values, **tuning.trial.after}, trying))
        answered = sum(side.answered for side in told)
        failed = sum(side.failed for side in told)
        latency: dict[int, int] = {}
        for side in told:
            for bucket, count in side.latency.items():
                latency[bucket] = latency.get(bucket, 0) + count
        busy_s = sum(side.busy_s for side in told)
        return Sample(
            workspace="default",
            deployment=deployment.name,
            revision=1,
            cloud="local",
            at_s=now - self.late_s,
            span_s=1.0,
            arrivals=answered + self.shed,
            codes={"2xx": answered - failed, "5xx": failed} | ({"shed": self.shed} if self.shed else {}),
            latency=latency,
            in_flight=3,
            queued=0,
            busy_s=busy_s,
            batches=Batches(count=answered, rows=answered, seconds=busy_s, rows_squared=answered, rows_seconds=busy_s),
            ready=self.ready,
            sides=tuple(side for side in told if side.replicas) if trying else (),
        )

    def side(self, values: KnobValues, replicas: int) -> Side:
        truth = self.truth(values)
        calls = self.rps * replicas // max(self.ready, 1)
        # A side's latency wavers from minute to minute, as the world does.
        wavering = 1 + 0.01 * (int(self.clock.now() // 60) % 3)
        bucket = bisect_left(LATENCY_BOUNDS_S, truth.latency_s * wavering)
        return Side(
            knobs=replica_knobs(values).version,
            replicas=replicas,
            answered=calls,
            failed=round(calls * truth.failed),
            latency={bucket: calls} if calls else {},
            busy_s=calls * truth.work_s * wavering,
            ready_s=float(replicas),
            ended=truth.ended,
        )

    def state(self, name: str = "shop") -> TuningState:
        found = self.live_status.tuning("default", name)
        assert found is not None
        return found

    async def journal(self, name: str = "shop") -> list[Any]:
        return await self.store.journal("default", name, "tuning")

    async def events(self) -> list[str]:
        return [event.reason for event in await self.store.events("default")]

    async def until(self, holds: Callable[[TuningStatus], bool], most_s: int = 3600) -> int:
        """Live until the status is so; how many seconds that took."""
        for second in range(most_s):
            if holds(await self.tuned()):
                return second
            await self.live(1)
        raise AssertionError(f"not within {most_s} s: {self.state().reason}; {await self.events()}")


def cheaper(values: KnobValues) -> Truth:
    """Half a batch costs less."""
    return Truth(work_s=0.06 if values.get("max_batch") == 16 else 0.1)


def failing(values: KnobValues) -> Truth:
    return Truth(failed=0.3 if values.get("max_batch") == 16 else 0.0)


async def test_the_state_of_the_tuner_exists_for_as_long_as_the_deployment() -> None:
    world = World(FakeTwin())
    assert world.live_status.tuning("default", "shop") is None
    await world.deploy()
    state = world.state()
    assert (state.deployment, state.mode, state.state) == ("shop", "recommend", "learning")
    assert {knob.name: knob.value for knob in state.knobs}["max_batch"] == 32
    await world.store.delete(await world.shop())
    await world.settle()
    assert world.live_status.tuning("default", "shop") is None


async def test_a_deployment_without_a_knob_is_not_tuned_and_its_state_has_the_reason() -> None:
    world = World()
    await world.deploy()
    shop = await world.shop()
    other = f"sha256:{'1' * 64}"
    service = ServiceSpec(name="shop", entry="s:S", endpoints=(EndpointSpec(name="x", method="GET", path="/"),))
    manifest = Manifest(kaon="0", python="3.11", service=service, files=())
    await world.store.create("artifact", "default", other, ArtifactSpec(digest=other, manifest=manifest, size_bytes=1))
    spec = shop.spec.model_copy(update={"template": Template(artifact=other), "scaling": Bounds(min=2, max=2)})
    await world.store.update_spec(shop, spec)
    await world.settle()
    state = world.state()
    assert (state.state, [knob.tuned for knob in state.knobs]) == ("still", [False])
    assert "nothing to tune" in state.reason
    await world.attempt(concurrency=2)
    assert (await world.tuned()).asked is None
    assert (await world.events())[-1] == "TrialRefused"


async def test_requested_values_are_tried_on_a_canary_and_kept_when_they_prove_better() -> None:
    world = World()
    await world.deploy()
    world.truth = cheaper
    await world.live(120)
    await world.attempt(max_batch=16)
    took_s = await world.until(lambda s: s.trial is not None)
    assert took_s <= 2 * LOOK_S
    tried = (await world.tuned()).trial
    assert tried is not None
    assert (tried.reach, tried.after, tried.replicas, tried.asked_by) == (Reach.REPLICA, {"max_batch": 16}, 1, "ann")
    assert (await world.tuned()).asked is None
    assert world.state().state == "trying"
    await world.until(lambda s: s.trial is None)
    kept = await world.tuned()
    assert (kept.values, kept.before, kept.changed_by) == ({"max_batch": 16}, ({},), "")
    (entry,) = await world.journal()
    assert record.replays(entry.figures)
    assert entry.figures["promoted"]
    assert await world.events() == ["TrialBegan", "TrialPromoted"]
    (told,) = world.state().trials
    assert (told.outcome, told.after["max_batch"], told.predicted) == ("promoted", 16, None)
    assert told.realised is not None
    assert told.realised > 0.1


async def test_a_knob_that_only_people_set_can_be_tried_too() -> None:
    world = World(FakeTwin([promising({})]))
    await world.deploy()
    world.truth = lambda values: Truth(work_s=0.06 if values.get("max_wait_s") == 0.01 else 0.1)
    await trying(world, max_wait_s=0.01)
    assert not world.twin.asked  # it does not know of such knobs
    await world.until(lambda s: s.trial is None)
    assert (await world.tuned()).values == {"max_wait_s": 0.01}
    assert {k.name: k.value for k in world.state().knobs}["max_wait_s"] == 0.01
    assert record.replays((await world.journal())[-1].figures)


async def test_what_does_not_prove_better_is_not_kept() -> None:
    world = World()
    await world.deploy()
    world.truth = lambda values: Truth(work_s=0.14 if values.get("max_batch") == 16 else 0.1)
    await world.live(120)
    await world.attempt(max_batch=16)
    await world.until(lambda s: s.trial is not None)
    await world.until(lambda s: s.trial is None)
    assert (await world.tuned()).values == {}
    (entry,) = await world.journal()
    assert record.replays(entry.figures)
    assert (await world.events())[-1] == "TrialRejected"


@pytest.mark.parametrize(
    ("truth", "why"),
    [
        (failing, "of calls failed"),
        (lambda v: Truth(latency_s=2.0 if v.get("max_batch") == 16 else 0.2), "p99"),
        (lambda v: Truth(ended=int(v.get("max_batch") == 16)), "ended"),
    ],
)
async def test_a_bad_canary_is_gone_within_a_tick_of_the_figures_that_show_it(
    truth: Callable[[KnobValues], Truth], why: str
) -> None:
    world = World()
    await world.deploy()
    await world.live(120)
    await world.attempt(max_batch=16)
    await world.until(lambda s: s.trial is not None)
    await world.live(61)
    world.truth = truth
    took_s = await world.until(lambda s: s.trial is None, 3 * 60)
    assert took_s <= LOOK_S + 1
    after = await world.tuned()
    assert (after.values, len(after.rollbacks)) == ({}, 1)
    (entry,) = await world.journal()
    assert why in entry.reason
    assert record.replays(entry.figures)
    assert not record.replays({**entry.figures, "reason": "else"})
    assert (await world.events())[-1] == "TrialRolledBack"
    assert world.state().trials[-1].outcome == "rolled back"


async def test_failures_from_the_first_second_of_a_canary_are_found_at_the_next_tick() -> None:
    world = World()
    world.truth, world.late_s = failing, 0.4
    await world.deploy()
    await world.live(120)
    await world.attempt(max_batch=16)
    await world.until(lambda s: s.trial is not None)
    assert await world.until(lambda s: s.trial is None) <= LOOK_S + 1
    assert len((await world.tuned()).rollbacks) == 1


async def test_a_canary_that_ends_is_blamed_although_only_one_other_replica_is_left() -> None:
    world = World()
    world.ready = 2
    await world.deploy()
    await trying(world)
    serving = (await world.shop()).status.rollout.assignments[0]
    await world.stand(assignments=(serving.model_copy(update={"ready": 1}),))
    world.truth = lambda values: Truth(ended=int(values.get("max_batch") == 16))
    await world.live(1)
    world.truth = as_it_is
    await world.live(int(LOOK_S))
    assert len((await world.tuned()).rollbacks) == 1
    assert (await world.events())[-1] == "TrialRolledBack"


async def test_three_rollbacks_in_an_hour_switch_it_off_for_six_and_a_restart_does_not_forget() -> None:
    world = World()
    await world.deploy()
    await world.live(120)
    world.truth = failing
    for _ in range(3):
        await world.attempt(max_batch=16)
        await world.until(lambda s: s.trial is not None)
        await world.until(lambda s: s.trial is None)
    off = await world.tuned()
    assert off.off_until == pytest.approx(world.clock.now() + 6 * 3600, abs=LOOK_S)
    assert (await world.events())[-1] == "TuningOff"
    world.start()
    await world.settle()
    await world.live(20)
    assert (await world.tuned()).off_until == off.off_until
    assert world.state().state == "frozen"
    await world.attempt(max_batch=16)
    await world.live(20)
    assert ((await world.tuned()).asked, (await world.tuned()).trial) == (None, None)
    assert (await world.events())[-1] == "TrialRefused"


async def test_a_control_plane_that_finds_a_trial_ends_it_before_anything_else() -> None:
    world = World()
    await world.deploy()
    trial = TrialStatus(reach=Reach.REPLICA, after={"max_batch": 4}, since=1.0, until=9e9, replicas=1)
    shop = await world.shop()
    left = shop.status.tuning.model_copy(update={"trial": trial, "values": {"max_batch": 8}})
    await world.store.update_status(shop, shop.status.model_copy(update={"tuning": left}))
    world.start()
    await world.settle()
    found = await world.tuned()
    assert (found.trial, found.values, found.rollbacks) == (None, {"max_batch": 8}, ())
    entry = (await world.journal())[-1]
    assert "the control plane was restarted" in entry.reason
    assert record.replays(entry.figures)
    assert world.state().trials[-1].outcome == "stopped"


async def test_a_request_that_the_release_before_stored_in_the_status_is_tried() -> None:
    world = World()
    await world.deploy()
    await world.stand(tuning=TuningStatus(asked={"max_batch": 16}, asked_by="ann"))
    world.start()
    await world.settle()
    await world.until(lambda s: s.trial is not None)
    trial = (await world.tuned()).trial
    assert trial is not None
    assert (trial.after, trial.asked_by) == ({"max_batch": 16}, "ann")


async def test_commands_from_before_a_restart_are_carried_out_once() -> None:
    world = World()
    await world.deploy()
    await world.write_command(TunerAction.SET, {"max_batch": 8})
    await world.write_command(TunerAction.SET, {"max_batch": 4})
    world.start()
    await world.settle()
    await world.live(20)
    tuned = await world.tuned()
    assert (tuned.values, tuned.before, tuned.command) == ({"max_batch": 4}, ({}, {"max_batch": 8}), 2)


async def test_a_request_from_before_the_tuner_was_switched_off_is_refused() -> None:
    world = World()
    await world.deploy()
    await world.attempt(max_batch=16)  # nothing is known yet: it waits
    await world.respec(tuning=TuningSpec(mode=TuningMode.OFF))
    await world.live(130)
    assert ((await world.tuned()).asked, (await world.tuned()).trial) == (None, None)
    assert await world.events() == ["TrialRefused"]


async def trying(world: World, **values: float) -> None:
    """Let a trial be under way."""
    await world.live(120)
    await world.attempt(**(values or {"max_batch": 16}))
    await world.until(lambda s: s.trial is not None)


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda w: w.respec(drain_s=5.0), "the spec was changed"),
        (lambda w: w.respec(tuning=TuningSpec(mode=TuningMode.OFF)), "the mode is off"),
        (lambda w: w.stand(target=2, state=RolloutState.PROGRESSING), "a rollout is under way"),
        (lambda w: w.stand(assignments=(), wanted=0), "there are no replicas"),
        (lambda w: w.command(TunerAction.SET, {"max_batch": 8}, "eve"), "key 'eve'"),
        (lambda w: w.undo("eve"), "a user ended it"),
    ],
)
async def test_a_trial_ends_without_blame_when_the_ground_is_another(happens: Any, why: str) -> None:
    world = World()
    await world.deploy(min=0)
    await trying(world)
    await happens(world)
    await world.live(int(LOOK_S))
    after = await world.tuned()
    assert (after.trial, after.rollbacks) == (None, ())
    stopped = next(entry for entry in await world.journal() if entry.figures["kind"] == "trial")
    assert why in stopped.reason
    assert record.replays(stopped.figures)


async def test_replicas_that_are_added_are_no_rollout_and_end_no_trial() -> None:
    world = World()
    await world.deploy()
    await trying(world)
    serving = (await world.shop()).status.rollout.assignments[0]
    grown = serving.model_copy(update={"replicas": serving.replicas + 1})
    await world.stand(state=RolloutState.PROGRESSING, assignments=(grown,), wanted=serving.replicas + 1)
    await world.live(int(LOOK_S))
    assert (await world.tuned()).trial is not None


@pytest.mark.parametrize("seen", ["shed", "silence", "burning"])
async def test_what_freezes_ends_a_trial_and_lets_none_begin(seen: str) -> None:
    world = World()
    await world.deploy()
    await trying(world)
    if seen == "shed":
        world.shed = 5
    if seen == "burning":
        world.truth = lambda values: Truth(failed=0.2)
    if seen == "silence":
        await world.clock.advance(40)
        await world.tuning.tick()
    else:
        await world.live(130)
    assert (await world.tuned()).trial is None
    await world.attempt(max_batch=16)
    if seen != "silence":
        await world.live(30)
    await world.tuning.tick()
    assert (await world.tuned()).trial is None
    assert (await world.tuned()).asked == {"max_batch": 16}
    assert world.state().state == "frozen"


async def test_where_it_only_recommends_it_finds_something_better_while_calls_are_shed() -> None:
    world = World(FakeTwin([promising({"max_batch": 24.0})]))
    await world.deploy()
    world.shed = 5
    await world.until(lambda s: s.recommended is not None, LEARNT + 60)
    status = await world.tuned()
    assert (status.values, status.trial) == ({}, None)
    assert world.state().state == "recommending"


async def test_a_requested_trial_outlasts_a_change_of_mode_and_the_tuner_s_own_does_not() -> None:
    world = World()
    await world.deploy()
    await trying(world)
    await world.respec(tuning=TuningSpec(mode=TuningMode.AUTO))
    await world.respec(tuning=TuningSpec(mode=TuningMode.RECOMMEND))
    await world.live(20)
    assert (await world.tuned()).trial is not None
    world = World(FakeTwin([promising({"max_batch": 24.0})]))
    await world.deploy(mode=TuningMode.AUTO)
    await world.until(lambda s: s.trial is not None)
    await world.respec(tuning=TuningSpec(mode=TuningMode.RECOMMEND))
    await world.live(20)
    assert (await world.tuned()).trial is None
    entry = (await world.journal())[-1]
    assert "the mode is recommend" in entry.reason
    assert record.replays(entry.figures)


async def test_recommend_only_recommends_and_takes_back_what_does_not_hold_any_more() -> None:
    twin = FakeTwin([promising({"max_batch": 24.0, "budget_share": 0.4})])
    world = World(twin)
    await world.deploy()
    await world.live(LEARNT)
    advice = (await world.tuned()).recommended
    assert advice is not None
    assert (advice.values, advice.gain) == ({"max_batch": 24.0, "budget_share": 0.4}, 0.1)
    assert (await world.tuned()).trial is None
    assert world.state().state == "recommending"
    assert (await world.events()).count("TuningRecommended") == 1
    twin.answers.append(finding_nothing)
    twin.answers.popleft()
    await world.live(2000)
    assert (await world.tuned()).recommended is None


async def test_what_is_recommended_and_applied_is_taken_up_with_who_did_it() -> None:
    world = World(FakeTwin([promising({"max_batch": 24.0})]))
    await world.deploy()
    await world.live(LEARNT)
    recommended = (await world.tuned()).recommended
    await world.command(TunerAction.SET, recommended.values if recommended else {})
    entry = (await world.journal())[-1]
    assert (entry.figures["kind"], entry.figures["by"], entry.after) == (
        "change",
        "ann",
        "budget_share=0.25 contest_share=0.1 max_batch=24",
    )
    assert record.replays(entry.figures)
    session = world.scaling.session(("default", "shop"))
    assert session is not None
    assert session.law.max_batch == 24
    await world.undo()
    assert session.law.max_batch == 32
    assert {k.name: k.value for k in world.state().knobs}["max_batch"] == 32


async def test_changes_of_knobs_that_are_never_tuned_are_in_the_journal() -> None:
    world = World()
    await world.deploy()
    await world.command(TunerAction.SET, {"max_wait_s": 0.01})
    entry = (await world.journal())[-1]
    assert ("max_wait_s" in entry.before, "max_wait_s=0.01" in entry.after) == (False, True)


async def test_auto_tries_a_knob_of_the_pool_by_turns_and_the_law_goes_along() -> None:
    world = World(FakeTwin([promising({"budget_share": 0.4})]))
    await world.deploy(mode=TuningMode.AUTO)
    await world.until(lambda s: s.trial is not None)
    tried = (await world.tuned()).trial
    assert tried is not None
    assert (tried.reach, tried.trying, tried.predicted) == (Reach.POOL, False, pytest.approx(0.1))
    assert tried.since % 60 == 0
    session = world.scaling.session(("default", "shop"))
    assert session is not None
    turns = []
    for _ in range(200):
        await world.live(10)
        status = await world.tuned()
        if status.trial is None:
            break
        turns.append(status.trial.trying)
        assert session.law.budget_share == (0.4 if status.trial.trying else 0.25)
        assert status.trial.until - world.clock.now() < 380
    lengths = [(turn, len(list(run))) for turn, run in groupby(turns)]
    assert lengths[:2] == [(False, pytest.approx(34, abs=3)), (True, pytest.approx(60, abs=31))]
    assert (await world.tuned()).values == {"budget_share": 0.4}
    assert session.law.budget_share == 0.4
    trial = next(e for e in await world.journal() if e.figures["kind"] == "trial")
    assert all(w[2] == 2.0 for w in trial.figures["tried"])  # what the twin foresaw stands beside each window
    assert record.replays(trial.figures)


def turns_bad(values: KnobValues) -> Truth:
    """What is promoted is cheaper for a while; `world.truth` becomes this when it is in force."""
    return Truth(work_s=0.06, failed=0.05) if values.get("max_batch") == 16 else Truth()


async def with_something_promoted() -> World:
    """A deployment of which larger batches have just been promoted."""
    world = World()
    world.truth = cheaper
    await world.deploy()
    await trying(world)
    await world.until(lambda s: s.values == {"max_batch": 16})
    return world


async def test_promoted_values_that_turn_bad_are_rolled_back_with_the_reason() -> None:
    world = await with_something_promoted()
    status = await world.tuned()
    assert status.probation is not None
    assert status.probation.safe == {}
    assert world.state().probation == status.probation
    world.truth = turns_bad
    assert await world.until(lambda s: s.values == {}) <= 200
    status = await world.tuned()
    assert (status.probation, status.before, len(status.rollbacks)) == (None, (), 1)
    assert (await world.events())[-1] == "TuningWentBack"
    assert world.state().trials[-1].outcome == "went back"
    assert all(record.replays(entry.figures) for entry in await world.journal())


async def test_a_restarted_control_plane_watches_values_that_an_earlier_one_promoted() -> None:
    world = await with_something_promoted()
    world.start()
    await world.settle()
    world.truth = turns_bad
    assert await world.until(lambda s: s.values == {}) <= 200


async def test_what_holds_while_it_is_watched_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (guard, values_in_force):
        monkeypatch.setattr(module, "PROBATION_S", guard.FRESH_S)
    world = await with_something_promoted()
    assert await world.until(lambda s: s.probation is None) <= guard.FRESH_S + LOOK_S
    assert (await world.tuned()).values == {"max_batch": 16}


async def test_what_holds_for_half_an_hour_goes_back_in_a_worse_one() -> None:
    world = await with_something_promoted()
    await world.live(int(guard.FRESH_S))
    status = await world.tuned()
    assert (status.values, status.probation is None) == ({"max_batch": 16}, False)
    world.truth = lambda values: Truth(failed=0.02)
    assert 1800 <= await world.until(lambda s: s.values == {}) <= 3000
    (entry,) = [e for e in await world.journal() if e.figures["kind"] == "return"]
    assert "as fast as it lasts over half an hour, on probation" in entry.reason
    assert record.replays(entry.figures)


async def test_a_user_who_sets_values_just_before_a_rollback_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await with_something_promoted()
    world.truth, kept = turns_bad, world.store.write

    async def write(writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        statuses: list[Any] = [one.status for one in writes if isinstance(one, UpdateStatus)]
        if any(status.tuning.values == {} for status in statuses):
            monkeypatch.setattr(world.store, "write", kept)
            await world.write_command(TunerAction.SET, {"max_batch": 4.0})
        return await kept(writes)

    monkeypatch.setattr(world.store, "write", write)
    await world.until(lambda s: s.values != {"max_batch": 16})
    await world.live(60)
    assert (await world.tuned()).values == {"max_batch": 4.0}


async def test_a_move_that_is_too_far_is_not_tried_and_the_journal_has_the_reason() -> None:
    far = promising({"budget_share": 0.85})
    world = World(FakeTwin([lambda ask: replace(far(ask), record={"kind": "epoch"})]))
    await world.deploy(mode=TuningMode.AUTO)
    await world.live(LEARNT + 60)
    assert (await world.tuned()).trial is None
    assert "too far for one move" in (await world.journal())[0].reason


async def test_too_few_calls_are_recommended_on_only() -> None:
    world = World(FakeTwin([promising({"max_batch": 24.0})]))
    world.rps = 2
    await world.deploy(mode=TuningMode.AUTO)
    await world.live(LEARNT + 60)
    assert ((await world.tuned()).trial, (await world.tuned()).recommended is not None) == (None, True)


async def test_a_write_that_conflicts_is_repeated_on_top_of_the_other_one() -> None:
    world = World()
    await world.deploy()
    world.truth = failing
    await trying(world)
    shop = await world.shop()
    scaling = ScalingStatus(reason="else")  # the tuner has not read this yet
    await world.store.update_status(shop, status_with(shop.status, scaling=scaling))
    await world.live(60)
    shop = await world.shop()
    assert (shop.status.tuning.trial, len(shop.status.tuning.rollbacks)) == (None, 1)
    assert shop.status.scaling.reason == "else"


class Hanging(FakeTwin):
    """A twin that is silent on one deployment, and quick on the others."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.clock: FakeClock | None = None

    async def ask(self, ask: TwinQuery) -> TwinResult:
        self.asked.append((ask.deployment, ask.now_s))
        if ask.deployment == "a":
            await asyncio.get_running_loop().create_future()
        return finding_nothing(ask)


async def test_a_silent_twin_freezes_its_own_deployment_and_no_other() -> None:
    twin = Hanging()
    world = World(twin)
    for name in ("a", "b"):
        await world.deploy(name)

    async def nobody_waits() -> None:
        """For answers of which one never comes."""

    world.tuning.query_results = nobody_waits  # type: ignore[method-assign]
    await world.live(LEARNT + int(PATIENCE_S) + 60)
    assert {name for name, _ in twin.asked} == {"a", "b"}
    state = world.state("a")
    assert (state.state, state.trusted) == ("frozen", None)
    assert "no answer within 120 s" in state.reason
    assert world.state("b").state != "frozen"


async def test_searches_of_all_take_a_tenth_of_a_processor_and_begin_in_the_order_in_which_they_were_due() -> None:
    twin = FakeTwin([lambda ask: TwinResult(ask.search, cpu_s=3.0, trusted=False, distrust="busy 20 % off")])
    world = World(twin)
    for name in "abcd":
        await world.deploy(name)
    await world.live(LEARNT + 120)
    times = [ask.now_s for ask in twin.asked]
    assert [ask.deployment for ask in twin.asked[:4]] == list("abcd")
    assert min(b - a for a, b in pairwise(times)) >= 3.0 / SHARE
    assert world.state("a").reason == "the twin's replay is inaccurate, so its results are not tried: busy 20 % off"


async def test_a_twin_that_is_more_and_more_off_wakes_a_search_that_had_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kaon.control.tune.ticks.CHECK_S", 60.0)

    def answer(ask: TwinQuery) -> TwinResult:
        return promising({})(ask) if ask.foresee_s is not None else finding_nothing(ask)

    twin = FakeTwin([answer])

    def searches() -> int:
        return sum(ask.foresee_s is None for ask in twin.asked)

    world = World(twin)
    await world.deploy()
    await world.live(LEARNT + 1200)
    assert world.state().state == "still"
    assert searches() == 3
    world.truth = lambda values: Truth(latency_s=0.6)  # costs, calls and misses are what they were
    await world.live(900)
    assert searches() > 3


async def test_after_a_restart_it_knows_at_once_what_agents_still_remember() -> None:
    twin = FakeTwin([finding_nothing])
    world = World(twin)
    await world.deploy()
    await world.live(LEARNT)
    asked = len(twin.asked)
    assert asked
    world.start()
    await world.settle()
    await world.live(90)
    assert world.state().state != "learning"
    assert len(twin.asked) > asked
    past, now = twin.asked[-1].past, world.clock.now()
    assert past.sums(now - 1200, now - 120).arrivals == pytest.approx(50 * 1080, rel=0.02)
    assert all(snapshot.state is not None for snapshot in past.snapshots)


async def test_without_a_twin_the_reason_has_what_to_install() -> None:
    world = World(FakeTwin())
    await world.deploy()
    await world.live(LEARNT)
    assert "pip install 'kaon[sim]'" in world.state().reason


async def test_a_store_that_is_away_loses_no_news_and_no_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.deploy()
    await trying(world)
    world.truth = failing
    away = True
    kept = world.store.write

    async def write(writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        if away:
            raise Unavailable("the store is away")
        return await kept(writes)

    monkeypatch.setattr(world.store, "write", write)
    for _ in range(6):
        await world.clock.advance(1)
        world.ring.add(
            Traffic(cloud="local", after_s=world.ring.until("local"), samples=(world.sample(await world.shop()),)),
            world.clock.now(),
        )
    await world.clock.advance(1)
    with pytest.raises(Unavailable):
        await world.tuning.tick()
    away = False
    await world.tuning.tick()
    assert (await world.tuned()).trial is None
    assert (await world.events())[-1] == "TrialRolledBack"


async def test_a_fixed_deployment_is_tuned_by_its_batches_alone() -> None:
    world = World(FakeTwin([promising({"max_batch": 24.0})]))
    await world.deploy(min=10, max=10)
    assert [knob.name for knob in world.state().knobs if knob.tuned] == ["max_batch"]
    await world.live(LEARNT)
    assert (await world.tuned()).recommended is not None


async def test_minutes_are_charted_and_those_from_before_a_restart_are_there() -> None:
    world = World()
    await world.deploy()
    await world.live(300)
    assert [p.loss is not None for p in world.state().losses] == [True] * 4
    minutes = [
        world.sample(await world.shop()).model_copy(update={"at_s": 1_700_000_040.0 + 60 * n}) for n in range(1, 5)
    ]
    await world.store.keep_traffic(minutes)
    world.start()
    await world.settle()
    assert len(world.state().losses) == 4


async def test_the_minutes_before_a_trial_by_turns_are_its_first_turn_and_none_begins_in_a_climb() -> None:
    def answer(ask: TwinQuery) -> TwinResult:
        told = promising({"budget_share": 0.4})(ask)
        if ask.foresee_s is not None:
            return replace(told, foreseen_plain=(2.0,))
        ends = [ask.now_s - ask.now_s % 60 - 60 * n for n in range(25, 0, -1)]
        return replace(told, replayed=tuple((end_s, 2.0, 2.0) for end_s in ends))

    world = World(FakeTwin([answer]))
    await world.deploy(mode=TuningMode.AUTO)
    await world.live(LEARNT - 120)
    world.rps = 80
    await world.live(180)
    assert (await world.tuned()).trial is None
    assert world.state().reason == "the load climbs"
    world.rps = 50
    await world.until(lambda s: s.trial is not None, 1200)
    (begun,) = [e for e in await world.store.events("default") if e.reason == "TrialBegan"]
    await world.live(120)
    status = (await world.tuned()).trial
    assert status is not None
    assert status.trying  # what is tried has its turn at once
    assert begun.at <= status.since < begun.at + 60


def test_minutes_of_few_calls_are_charted_with_the_next() -> None:
    inputs = TunerInputs(Objective())
    place = {"workspace": "w", "deployment": "d", "revision": 1, "span_s": 60.0}
    told = {"latency": {12: 30}, "busy_s": 2.0, "ready_s": 60.0}
    inputs.load_history(
        Sample.model_validate(place | told | {"at_s": 60.0 * n, "arrivals": 30, "codes": {"2xx": 30}}) for n in range(4)
    )
    assert [point.loss is None for point in inputs.losses] == [True, False, True, False]
    assert len(inputs.minutes) == 4


def test_a_partly_covered_minute_is_neither_a_quiet_one_nor_the_start_of_a_climb() -> None:
    inputs = TunerInputs(Objective())

    def seen(from_s: int, until_s: int) -> None:
        place = {"workspace": "w", "deployment": "d", "revision": 1, "span_s": 1.0}
        told = {"arrivals": 25, "codes": {"2xx": 25}, "latency": {12: 25}, "busy_s": 1.0, "ready": 2}
        seconds = [Sample.model_validate(place | told | {"at_s": at_s + 0.5}) for at_s in range(from_s, until_s)]
        inputs.add_samples(seconds, unscaled=True)
        inputs.new_minutes(until_s + 10.0, tried=False)

    seen(55, 60)  # after a start
    assert inputs.calmest is None
    seen(60, 120)
    assert (inputs.calmest, inputs.climbing) == (1500, False)
    seen(120, 123)  # then nobody counted for most of a minute
    seen(180, 240)
    assert (inputs.calmest, inputs.climbing) == (1500, False)
    assert [minute.arrivals for minute in inputs.minutes] == [125, 1500, 75, 1500]


async def test_what_is_found_after_a_gap_in_the_counts_is_tried_and_after_a_pause_in_the_calls_it_is_not() -> None:
    async def lived(pause: bool) -> TuningStatus:
        world = World(FakeTwin([promising({"max_batch": 24.0})]))
        await world.deploy(mode=TuningMode.AUTO)
        await world.live(LEARNT - 300)
        if pause:
            world.rps = 0
            await world.live(57)
            world.rps = 50
        else:
            await world.clock.advance(57)
        await world.live(303)
        return await world.tuned()

    assert (await lived(pause=False)).trial is not None
    paused = await lived(pause=True)
    assert paused.trial is None
    assert paused.recommended is not None
