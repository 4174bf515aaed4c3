"""What the tuner must never do, whatever it sees."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds
from kaon.laws.tune import epoch, guard, randomness, record, scaling, tuner
from kaon.laws.tune.epoch import Depth, Proposal, Search
from kaon.laws.tune.gate import Block, GateVerdict, Played
from kaon.laws.tune.guard import Conditions, Probation, TrialArm
from kaon.laws.tune.knobs import Knob, KnobShape, KnobValues, Reach, Space
from kaon.laws.tune.trial import TrialWindow
from kaon.laws.tune.tuner import Tick, TunerEvent, TunerState, TuningMode
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation
from kaon.types.service import Batch, EndpointSpec, ServiceSpec

OBJECTIVE = Objective(latency_s=0.5)
SERVICE = ServiceSpec(
    name="s", entry="s:S", endpoints=(EndpointSpec(name="e", method="POST", path="/", batch=Batch(max_size=32)),)
)
SPACE = scaling.space(SERVICE, Scaling(max=40), OBJECTIVE)
assert SPACE is not None
FORCE = {knob.name: scaling.values(Scale(OBJECTIVE, 8))[knob.name] for knob in SPACE.knobs}

places = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(tuple)
conditions = st.builds(
    Conditions,
    ready=st.integers(0, 50),
    starting=st.integers(0, 20) | st.just(0),
    panicking=st.booleans(),
    shedding=st.booleans(),
    deploying=st.booleans(),
    burn=st.none() | st.floats(0, 5),
    calls=st.none() | st.integers(0, 5000),
    trusted=st.booleans(),
) | st.just(Conditions(ready=20, burn=0.0, calls=5000, trusted=True))
arms = st.builds(
    TrialArm, st.integers(0, 500), st.integers(0, 20), st.none() | st.floats(0, 3), st.sampled_from([0, 0, 0, 1])
)
windows = st.none() | st.builds(TrialWindow, st.floats(0, 10), st.integers(0, 2000), st.none() | st.floats(0, 10))


@st.composite
def knobs(draw: st.DrawFn) -> Knob:
    shape = draw(st.sampled_from(KnobShape))
    low = draw(st.floats(0.01, 0.4)) if shape is not KnobShape.WHOLE else float(draw(st.integers(1, 10)))
    high = draw(st.floats(0.5, 0.99)) if shape is not KnobShape.WHOLE else low + draw(st.integers(1, 100))
    return Knob(draw(st.sampled_from("abcdefgh")), shape, low, high, draw(st.sampled_from(Reach)))


@given(knobs(), st.floats(-5, 5), st.floats(0, 1e6))
def test_no_value_is_outside_of_its_bounds(knob: Knob, place: float, value: float) -> None:
    assert knob.low <= knob.value(place) <= knob.high
    assert 0 <= knob.place(value) <= 1 + 1e-12


@given(places, places)
def test_no_move_is_longer_than_the_slew(start: tuple[float, ...], aim: tuple[float, ...]) -> None:
    force = SPACE.values(start)
    after = SPACE.moved(force, aim)
    for knob in SPACE.knobs:
        near = abs(knob.place(force[knob.name]) - knob.place(after[knob.name])) <= knob.slew + 1e-9
        assert near or (knob.shape is KnobShape.WHOLE and abs(force[knob.name] - after[knob.name]) <= 1)
        assert knob.low <= after[knob.name] <= knob.high


@given(knobs(), st.floats(0, 1))
def test_a_knob_that_stays_stays_to_the_last_bit(knob: Knob, share: float) -> None:
    start = knob.low + share * (knob.high - knob.low)
    start = float(round(start)) if knob.shape is KnobShape.WHOLE else start
    space = Space((knob,))
    assert space.moved({knob.name: start}, space.point({knob.name: start})) == {knob.name: start}


@given(places, places, st.dictionaries(st.sampled_from([k.name for k in SPACE.knobs]), st.floats(0.01, 1e4)))
def test_what_is_allowed_is_what_a_move_can_lead_to(
    start: tuple[float, ...], aim: tuple[float, ...], else_: KnobValues
) -> None:
    force = SPACE.values(start)
    after = SPACE.moved(force, aim)
    assert SPACE.allows(force, after)
    wild = {**after, **else_}
    near = SPACE.moved(force, SPACE.point(wild))
    assert SPACE.allows(force, wild) == (wild == pytest.approx(near, rel=1e-6))
    assert not SPACE.allows(force, {**after, "replicas": 3.0})


def rough(seed: int) -> epoch.Play:
    """A twin with any results, but always the same."""

    def play(values: KnobValues, luck: int, depth: Depth) -> Played:
        number = round(1e6 * sum(SPACE.point(values))) + (depth == Depth.PROOF)
        count = 25 if depth else 10
        return tuple(
            Block(
                5 * randomness.uniform(seed, number, i),
                100,
                90 + int(11 * randomness.uniform(seed, number, 99 + i)),
                i < 3,
            )
            for i in range(count)
        )

    return play


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.02, 0.25), st.integers(0, 30))
def test_whatever_the_twin_says_a_proposal_is_within_bounds_and_slew_and_replays(
    seed: int, trust: float, done: int
) -> None:
    before = Search(epoch=done, trust=trust)
    _, found = epoch.propose(SPACE, before, FORCE, rough(seed), seed, 0.99)
    assert found.after == pytest.approx(SPACE.moved(FORCE, SPACE.point(found.after)))
    figures = json.loads(json.dumps(record.of_epoch(SPACE, before, seed, 0.99, (), "", found)))
    assert record.replays(figures)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[Tick, TuningMode, KnobValues | None]]:
    """Ticks, modes, and what an epoch proposes after a tick."""
    out, at_s = [], 0.0
    for _ in range(draw(st.integers(1, 60))):
        at_s += 10
        tick = Tick(at_s, draw(conditions), draw(st.none() | st.floats(0, 5)), draw(arms), draw(arms))
        tick = replace(tick, window=draw(windows), beside=draw(windows), burn_force=draw(st.none() | st.floats(0, 9)))
        after = draw(st.none() | places.map(lambda aim: SPACE.moved(FORCE, aim)))
        out.append(
            (
                tick,
                draw(
                    st.sampled_from(
                        [TuningMode.AUTO, TuningMode.AUTO, TuningMode.AUTO, TuningMode.RECOMMEND, TuningMode.OFF]
                    )
                ),
                after,
            )
        )
    return out


@settings(max_examples=60)
@given(lives(), st.none() | st.integers(0, 600))
def test_it_is_frozen_when_it_must_be_and_back_within_the_tick_of_an_alarm(
    life: list[tuple[Tick, TuningMode, KnobValues | None]], watched_s: int | None
) -> None:
    earlier = {**FORCE, "budget_share": 0.2}
    state = TunerState(FORCE, probation=None if watched_s is None else Probation(earlier, watched_s))
    for tick, mode, after in life:
        safe, tried, before, watched = (
            state.force,
            state.trial,
            state.guard.after_window(tick.burn_now),
            state.probation,
        )
        watched = watched if watched and tick.at_s < watched.until_s and mode is not TuningMode.OFF else None
        state, orders = tuner.step(state, mode, OBJECTIVE, tick)
        wrong = tried is not None and guard.alarm(OBJECTIVE, before, tick.trying, tick.control)
        troubled = tick.conditions.panicking or tick.conditions.shedding or tick.conditions.deploying
        if watched and watched.after_window(tick.at_s, tick.burn_force).failed:
            assert orders.happened is TunerEvent.WENT_BACK
            assert (state.force, state.probation) == (watched.before, None)
            safe = watched.before
        elif wrong:
            assert orders.happened is TunerEvent.ROLLED_BACK
        if wrong or troubled or mode is not TuningMode.AUTO:
            assert (orders.pool, orders.canary, state.trial) == (safe, None, None)
        if guard.frozen(tick.conditions) is not None:
            assert not orders.epoch or (mode is TuningMode.RECOMMEND and guard.blind(tick.conditions) is None)
            assert orders.happened is not TunerEvent.PROMOTED
        if orders.happened is TunerEvent.PROMOTED:
            assert state.probation is not None
            assert state.probation.before == (safe if watched is None else watched.before)
        else:
            assert state.force == safe
        if after is not None and state.trial is None:
            found = Proposal(state.force, after, GateVerdict(True, 0.1, 0.05, "better"), 0.2, ())
            state, orders = tuner.proposed(state, mode, SPACE, tick.at_s, tick.conditions, state.search, found)
            if guard.frozen(tick.conditions) or guard.quiet(tick.conditions) or tick.at_s < state.guard.off_until_s:
                assert state.trial is None
                assert orders.pool == state.force


@settings(max_examples=30)
@given(places, st.integers(1, 400), st.integers(0, 5))
def test_whatever_the_knobs_are_a_scale_up_is_neither_delayed_nor_capped(
    place: tuple[float, ...], rate: int, quiet: int
) -> None:
    """On the first figures that show a load which needs them, the law orders what the load needs."""
    chosen = SPACE.values(tuple(min(max(z, 0.0), 1.0) for z in place))
    law = scaling.applied(Scale(OBJECTIVE, 8), chosen)
    state = law.begin()

    def seen(at_s: float, calls: int) -> Observation:
        batch = min(8, int(chosen["max_batch"]))
        count = max(1, calls // batch)
        batches = Batches(
            count=count, rows=calls, seconds=0.05 * count, rows_squared=batch * calls, rows_seconds=0.05 * calls
        )
        return Observation(
            at_s=at_s, span_s=2.0, arrivals=calls, answered=calls, missed=0, in_flight=1, batches=batches, ready=1
        )

    for i in range(quiet):
        state, _ = law.step(state, Bounds(1, 10_000), seen(2.0 * i, 2))
    for i in range(6):
        state, decision = law.step(state, Bounds(1, 10_000), seen(2.0 * (quiet + i), 2 * rate))
    a_replica_serves = min(8, int(chosen["max_batch"])) / 0.05
    assert decision.replicas >= 0.8 * min(1.0, rate / a_replica_serves)
    assert decision.replicas >= 0.25 * rate / max(a_replica_serves, chosen["max_batch"] / 0.05)
