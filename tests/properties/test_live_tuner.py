"""What the live tuner must never do, for any observations, results of its twin, writers and failures."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.control.test_tuning import Truth, World

from kaon.control.tune import session
from kaon.errors import Conflict, Unavailable
from kaon.laws.tune import record, scaling
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Proposal
from kaon.laws.tune.gate import GateVerdict
from kaon.laws.tune.knobs_of import planned, replica_knobs
from kaon.testing.twins import FakeTwin
from kaon.types.deployment import RolloutState, Scaling
from kaon.types.knobs import KnobValues
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.traffic import Traffic
from kaon.types.tuning import TunerAction, TuningMode, TuningSpec, TuningStatus

LOOK_S = 10
BAD = {"fails": Truth(failed=0.4), "ends": Truth(ended=1), "is slow": Truth(latency_s=3.0)}
TROUBLES = ("none", "none", "none", *BAD, "sheds", "rolls", "is silent")
HAPPENS = ("nothing", "nothing", "wish", "wish", "set", "undo", "mode", "restart", "away", "conflicts")
ENDPOINT = EndpointSpec(name="buy", method="POST", path="/buy", batch=Batch(max_size=32))
SPACE = scaling.space(ServiceSpec(name="s", entry="s:S", endpoints=(ENDPOINT,)), Scaling(max=20), Objective())
assert SPACE is not None
KNOBS = {knob.name: knob for knob in SPACE.knobs}


class Life:
    """A deployment's, in which everything happens."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.trouble, self.store = "none", "well"
        self.trying: KnobValues | None = None
        """What the replicas under trial have, while one is on."""
        self.world = World(FakeTwin([self.answer]))
        self.world.rps = 200  # of the canary enough in ten seconds to tell its p99
        self.world.truth = lambda values: BAD.get(self.trouble, Truth()) if values == self.trying else Truth()
        self._update = self.world.store.update_status
        self.world.store.update_status = self.update  # type: ignore[method-assign]

    def answer(self, ask: TwinQuery) -> TwinResult:
        """A twin with any result, within bounds or not, trusted or not."""
        dice = self.dice
        if dice.random() < 0.1:
            raise Unavailable("there is no twin")
        if ask.foresee_s is not None:
            return TwinResult(ask.search, foreseen=((ask.force, dice.uniform(0, 4)),), reference_s=0.15)
        after = {**ask.force, **(ask.attempt or self.values())}
        verdict = GateVerdict(dice.random() < 0.8, dice.uniform(0.01, 0.5), dice.uniform(-0.1, 0.3), "so")
        found = Proposal(ask.force, after, verdict, dice.uniform(0.01, 1), ())
        return TwinResult(ask.search, found, reference_s=0.15, trusted=dice.random() < 0.9)

    def values(self) -> KnobValues:
        """Some knobs, near or far, and sometimes beyond what they take."""
        some: KnobValues = {"max_batch": float(self.dice.choice([24, 28, self.dice.randint(1, 32)]))}
        if self.dice.random() < 0.3:
            some["budget_share"] = self.dice.choice([0.4, 0.2, 1e9, -1.0])
        return some

    async def update(self, resource: Any, status: Any) -> Any:
        """A store that may be away, or give others the precedence."""
        if self.store == "away":
            raise Unavailable("the store is away")
        if self.store == "conflicts" and self.dice.random() < 0.5:
            raise Conflict("somebody else wrote")
        return await self._update(resource, status)

    async def happen(self, what: str) -> None:
        """Something that others do."""
        world = self.world
        self.store = "well"
        taken = {name: min(max(v, KNOBS[name].low), KNOBS[name].high) for name, v in self.values().items()}
        match what:
            case "wish":
                if (await world.tuned()).trial is None:
                    await world.command(TunerAction.TRY, taken)
            case "set":
                await world.command(TunerAction.SET, taken)
            case "undo":
                await world.undo()
            case "mode":
                mode = self.dice.choice([TuningMode.AUTO, TuningMode.AUTO, TuningMode.RECOMMEND, TuningMode.OFF])
                await world.respec(tuning=TuningSpec(mode=mode))
            case "restart":
                world.start()
                await world.settle()
            case "away" | "conflicts":
                self.store = what

    async def look(self) -> TuningStatus:
        """Ten seconds with the trouble, and a look at their end."""
        world, store = self.world, self.store
        self.store = "well"
        rolls = self.trouble == "rolls"
        state = RolloutState.PROGRESSING if rolls else RolloutState.STABLE
        await world.stand(target=2 if rolls else 1, state=state)
        self.store = store
        world.shed = 5 if self.trouble == "sheds" else 0
        before = await world.tuned()
        self.trying = None if before.trial is None else {**before.values, **before.trial.after}
        for _ in range(LOOK_S):
            await world.clock.advance(1)
            if self.trouble != "is silent":
                told = Traffic(
                    cloud="local", after_s=world.ring.until("local"), samples=(world.sample(await world.shop()),)
                )
                world.ring.add(told, world.clock.now())
        for part in (world.scaling.tick, world.tuning.tick, world.tuning.query_results, world.settle):
            try:
                await part()
            except (Unavailable, Conflict):  # their loops try again
                assert self.store != "well"
        return await world.tuned()


async def live(seed: int, days: list[tuple[str, str, int]]) -> None:
    life = Life(seed)
    world = life.world
    await world.deploy(mode=TuningMode.AUTO)
    await world.live(70)
    for happens, trouble, looks in days:
        life.trouble = "none"
        was = await world.tuned()
        await life.happen(happens)
        said = await world.tuned()
        assert said.values == was.values or happens in ("set", "undo")
        for number in range(looks):
            life.trouble = trouble
            before = await world.tuned()
            after = await life.look()
            await holds(life, before, after, certain=life.store == "well" and happens not in ("away", "conflicts"))
            if (
                life.trouble in BAD
                and number
                and before.trial is not None
                and before.trial.trying
                and life.store == "well"
            ):
                alike = replica_knobs(life.trying or {}) == replica_knobs(before.values)
                assert after.trial != before.trial or alike, f"{trouble} is not taken back"
    entries = await world.journal()
    assert all(record.replays(entry.figures) for entry in entries)


async def holds(life: Life, before: TuningStatus, after: TuningStatus, *, certain: bool) -> None:
    """What is so after every look."""
    world = life.world
    for values in (after.values, *([after.trial.after] if after.trial else [])):
        for name, value in values.items():
            assert KNOBS[name].low <= value <= KNOBS[name].high
            assert name != "max_batch" or value == int(value)
    if after.values != before.values:  # there was no other writer: only a promotion may
        promoted = [e for e in await world.journal() if e.figures.get("promoted")]
        assert before.trial is not None
        assert after.values == {**before.values, **before.trial.after}
        assert not certain or promoted
    if life.trouble in ("sheds", "rolls", "is silent") and before.trial is None:
        assert after.trial is None or life.trouble == "is silent", f"a trial began while it {life.trouble}"
    if certain and life.trouble in ("sheds", "rolls"):
        assert after.trial is None, f"a trial goes on while it {life.trouble}"
    plan = planned(after, [str(i) for i in range(10)], world.clock.now())
    if after.trial is None:
        assert plan is None or (plan.force == replica_knobs(after.values) and plan.trial is None)
    elif plan is not None and plan.replicas is not None:
        assert len(plan.replicas) == 1
    if after.trial is not None:
        assert after.off_until <= world.clock.now()


days = st.lists(
    st.tuples(st.sampled_from(HAPPENS), st.sampled_from(TROUBLES), st.integers(1, 4)), min_size=3, max_size=12
)


@settings(max_examples=25)
@given(st.integers(0, 10**6), days)
def test_whatever_happens_it_stays_within_bounds_and_goes_back_and_can_be_taken_again(
    seed: int, story: list[tuple[str, str, int]]
) -> None:
    with mock.patch.object(session, "LEARNS_S", 0.0):
        asyncio.run(live(seed, story))


@pytest.mark.parametrize("reach", ["max_batch", "budget_share"])
def test_traffic_that_triples_in_a_trial_gets_at_least_the_replicas_that_it_would_without_one(reach: str) -> None:
    asyncio.run(_tripled({"max_batch": 24.0} if reach == "max_batch" else {"budget_share": 0.4}))


async def _tripled(tried: KnobValues) -> None:
    with_trial, without = World(), World()
    for world in (with_trial, without):
        world.truth, world.rps = lambda values: Truth(work_s=0.05), 3000
        await world.deploy()
        await world.live(120)
    await with_trial.attempt(**tried)
    await without.live(0)
    for _ in range(8 * 60):
        await _both(with_trial, without)
        if (await with_trial.tuned()).trial is not None:
            break
    assert (await with_trial.tuned()).trial is not None
    for world in (with_trial, without):
        world.rps *= 3
    for _ in range(120):
        await _both(with_trial, without)
    assert (await without.shop()).status.scaling.wanted > 10
    assert (await with_trial.tuned()).values == {}


async def _both(with_trial: World, without: World) -> None:
    """A second of both; as many replicas are wanted with a trial as without."""
    await with_trial.live(1)
    await without.live(1)
    assert (await with_trial.shop()).status.scaling.wanted >= (await without.shop()).status.scaling.wanted
