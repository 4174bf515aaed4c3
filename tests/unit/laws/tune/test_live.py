"""Trying a move on the real service: trials, guardrails, price, drift, and the tuner that holds them together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kaon.laws.tune import guard, randomness, record, trial, tuner
from kaon.laws.tune.drift import DriftWatch
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.gate import GateVerdict
from kaon.laws.tune.guard import Conditions, Probation, TrialArm, TunerGuard
from kaon.laws.tune.knobs import KnobValues, Reach
from kaon.laws.tune.scaling import space
from kaon.laws.tune.trial import Trial, TrialWindow
from kaon.laws.tune.tuner import Tick, TunerEvent, TunerState
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.tuning import TuningMode

OBJECTIVE = Objective(latency_s=0.5)
SERVICE = ServiceSpec(
    name="s", entry="s:S", endpoints=(EndpointSpec(name="e", method="POST", path="/", batch=Batch(max_size=32)),)
)
SPACE = space(SERVICE, Scaling(max=40), OBJECTIVE)
assert SPACE is not None
BEFORE: KnobValues = {"max_batch": 8.0, "budget_share": 0.25, "contest_share": 0.15}
POOL: KnobValues = {**BEFORE, "budget_share": 0.45}
REPLICA: KnobValues = {**BEFORE, "max_batch": 13.0}
WELL = Conditions(ready=20, burn=0.1, calls=5000, trusted=True)


def proposal(after: KnobValues) -> Proposal:
    return Proposal(BEFORE, after, GateVerdict(True, 0.1, 0.05, "gain 10 %"), 0.2, ())


def begun(after: KnobValues, at_s: float = 0.0) -> TunerState:
    state, orders = tuner.proposed(TunerState(BEFORE), TuningMode.AUTO, SPACE, at_s, WELL, Search(1), proposal(after))
    assert orders.happened is TunerEvent.BEGAN
    return state


def minutes(
    state: TunerState, count: int, force: float, tried: float, at_s: float = 0.0
) -> tuple[TunerState, list[TunerEvent]]:
    """`count` minutes of ticks; each side's loss wavers a little."""
    seen = []
    for tick in range(1, count * 6 + 1):
        now = at_s + 10.0 * tick
        window = beside = None
        if tick % 6 == 0 and state.trial is not None:
            waver = 0.02 * ((tick // 6) % 3)
            side = tried if state.trial.trying(now - 1) else force
            window, beside = TrialWindow(side + waver, 900), TrialWindow(tried + waver, 900)
        state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(now, WELL, window=window, beside=beside))
        seen.append(orders.happened)
        if orders.happened is not TunerEvent.NOTHING:
            break
    return state, seen


@pytest.mark.parametrize("after", [POOL, REPLICA])
def test_what_is_better_is_promoted(after: KnobValues) -> None:
    state, seen = minutes(begun(after), 60, 2.0, 1.8)
    assert seen[-1] is TunerEvent.PROMOTED
    assert state.force == after
    assert state.search.trust >= Search().trust


@pytest.mark.parametrize("after", [POOL, REPLICA])
def test_what_is_worse_is_not_and_the_search_becomes_timid(after: KnobValues) -> None:
    state, seen = minutes(begun(after), 200, 2.0, 2.3)
    assert seen[-1] is TunerEvent.REJECTED
    assert state.force == BEFORE
    assert state.search.trust < Search().trust


def test_a_pool_is_tried_in_blocks_of_five_minutes_in_the_order_a_b_b_a() -> None:
    tried = Trial(Reach.POOL, BEFORE, POOL, 0.1, 2.0, 0.0)
    assert [tried.trying(300 * i + 1) for i in range(8)] == [False, True, True, False] * 2


def test_windows_that_began_before_their_block_had_settled_are_dropped() -> None:
    tried = Trial(Reach.POOL, BEFORE, POOL, 0.1, 2.0, 0.0, settle_s=30.0)
    assert all(tried.counts(60.0 * i) for i in range(1, 6))  # what was in force goes on: nothing has to settle
    assert [tried.counts(300 + 60.0 * i) for i in range(1, 11)] == [False, *[True] * 9]
    assert not tried.counts(960.0)


def test_the_minutes_before_a_trial_are_its_first_block_when_they_were_watched() -> None:
    watched = tuple(TrialWindow(2.0 + 0.01 * i, 900, 2.0) for i in range(30))
    for before, first in ((watched, True), (watched[:4], False)):
        state, orders = tuner.proposed(
            TunerState(BEFORE), TuningMode.AUTO, SPACE, 0.0, WELL, Search(1), proposal(POOL), before
        )
        assert state.trial is not None
        assert state.trial.trying(1.0) is first
        assert orders.pool == (POOL if first else BEFORE)
        assert len(state.trial.force) == (trial.MOST_BEFORE if first else 0)
    tried = Trial(Reach.POOL, BEFORE, POOL, 0.1, 2.0, 0.0, led_in=5)
    assert [tried.trying(300 * i + 1) for i in range(8)] == [True, True, False, False] * 2
    assert not tried.counts(60.0)


def test_a_canary_is_a_tenth_and_at_least_one_beside_another() -> None:
    assert [trial.canaries(n) for n in (0, 1, 2, 19, 20, 55)] == [0, 0, 1, 1, 2, 5]
    _, orders = tuner.step(begun(REPLICA), TuningMode.AUTO, OBJECTIVE, Tick(10.0, WELL))
    assert (orders.pool, orders.canary, orders.canaries) == (BEFORE, REPLICA, 2)


def test_a_lone_replica_is_tried_by_switchback() -> None:
    alone = replace(WELL, ready=1)
    state, _ = tuner.proposed(TunerState(BEFORE), TuningMode.AUTO, SPACE, 0.0, alone, Search(1), proposal(REPLICA))
    assert state.trial is not None
    assert state.trial.reach is Reach.POOL


def test_what_the_twin_foresaw_is_taken_off() -> None:
    """The load doubles in the tried windows; the twin says that this alone costs 1."""
    tried = Trial(Reach.POOL, BEFORE, POOL, 0.2, 2.0, 0.0)
    for i in range(6):
        tried = replace(
            tried,
            force=(*tried.force, TrialWindow(2.0 + 0.01 * i, 900, 2.0)),
            tried=(*tried.tried, TrialWindow(2.8 + 0.02 * i, 900, 2.8)),
        )
    assert tried.realised == pytest.approx(0.2, abs=0.05)
    unaided = replace(
        tried,
        force=tuple(TrialWindow(w.loss, w.calls) for w in tried.force),
        tried=tuple(TrialWindow(w.loss, w.calls) for w in tried.tried),
    )
    assert unaided.realised is not None
    assert unaided.realised < -0.5


def test_nothing_is_decided_on_few_windows_or_few_calls() -> None:
    begun = Trial(Reach.REPLICA, BEFORE, REPLICA, 0.2, 2.0, 0.0)
    assert trial.judge(replace(begun, force=(TrialWindow(2.0, 900),) * 4, tried=(TrialWindow(1.0, 900),) * 4)) is None
    assert trial.judge(replace(begun, force=(TrialWindow(2.0, 90),) * 5, tried=(TrialWindow(1.0, 9),) * 5)) is None


def outcomes(gain: float, promised: float, waver: float, reach: Reach, lives: int = 300) -> tuple[int, int]:
    """How many of many trials of a move that truly brings `gain` are promoted, and how many are not, by their end."""
    promoted = rejected = 0
    for life in range(lives):
        numbers = iter(range(10_000))

        def window(lost: float, twin: float, life: int = life, numbers: Iterator[int] = numbers) -> TrialWindow:
            plain = 2.0 - lost + waver * randomness.gaussian(11, life, next(numbers))
            return TrialWindow(plain, 900, 2.0 - twin, plain, 2.0 - twin, 4.0)

        tried = Trial(reach, BEFORE, POOL, promised, 2.0, 0.0, plain=promised)
        if reach is Reach.POOL:
            tried = replace(
                tried, led_in=trial.MOST_BEFORE, force=tuple(window(0.0, 0.0) for _ in range(trial.MOST_BEFORE))
            )
        finding = None
        for minute in range(2, 200):
            beside = window(gain, promised if reach is Reach.POOL else 0.0)
            here = beside if tried.trying(60.0 * minute - 1) else window(0.0, 0.0)
            tried = tried.with_window(60.0 * minute, here, beside if reach is Reach.REPLICA else None)
            finding = trial.judge(tried)
            if finding is not None:
                break
        assert finding is not None
        promoted, rejected = promoted + finding.promoted, rejected + (not finding.promoted)
    return promoted, rejected


@pytest.mark.parametrize("reach", list(Reach))
@pytest.mark.parametrize("waver", [0.02, 0.1, 0.3])
def test_whatever_the_twin_promises_a_move_without_a_gain_is_seldom_promoted(waver: float, reach: Reach) -> None:
    promoted, rejected = outcomes(0.0, 0.2, waver, reach)
    assert promoted <= 0.1 * (promoted + rejected)


@pytest.mark.parametrize(("gain", "promoted"), [(0.24, True), (0.2, False)])
def test_when_its_time_is_over_it_is_decided_by_what_is_four_times_as_likely(gain: float, promoted: bool) -> None:
    waver = (-0.3, 0.0, 0.3) * 3
    force = tuple(TrialWindow(2.0 + x, 900, 2.0, 2.0 + x, 2.0, 4.0) for x in waver)
    tried = tuple(TrialWindow(w.loss - gain, 900, 2.0 - 0.2, w.loss - gain, 2.0 - 0.2, 4.0) for w in force)
    undecided = Trial(Reach.POOL, BEFORE, POOL, 0.2, 2.0, 0.0, plain=0.2, force=force[1:], tried=tried[1:])
    assert trial.judge(undecided) is None
    finding = trial.judge(replace(undecided, force=force, tried=tried))
    assert finding is not None
    assert finding.promoted is promoted
    assert finding.reason.startswith("likelier" if promoted else "undecided")


@pytest.mark.parametrize(
    ("minute", "undisturbed"),
    [
        *(((40.0, 100.0), False), ((60.0, 120.0), True), ((240.0, 300.0), True)),
        *(((270.0, 330.0), False), ((600.0, 660.0), False), ((630.0, 690.0), True)),
    ],
)
def test_minutes_tell_of_what_is_in_force_if_nothing_else_was_from_a_while_before(
    minute: tuple[float, float], undisturbed: bool
) -> None:
    schedule = ((30.0, BEFORE), (300.0, POOL), (600.0, BEFORE))
    assert trial.undisturbed(schedule, BEFORE, *minute) is undisturbed
    assert not trial.undisturbed((), BEFORE, *minute)


@pytest.mark.parametrize("reach", list(Reach))
@pytest.mark.parametrize("waver", [0.02, 0.1, 0.3])
def test_a_move_that_does_harm_is_not_promoted(waver: float, reach: Reach) -> None:
    assert outcomes(-0.2, 0.2, waver, reach)[0] <= 1


@pytest.mark.parametrize("reach", list(Reach))
def test_a_promise_that_is_true_and_not_small_is_found_to_be(reach: Reach) -> None:
    promoted, rejected = outcomes(0.2, 0.2, 0.15, reach)
    assert promoted >= 0.8 * (promoted + rejected)


def test_what_costs_less_but_misses_more_than_is_allowed_is_not_promoted() -> None:
    def side(loss: float, missed: float) -> tuple[TrialWindow, ...]:
        plain = (loss + 0.01 * (i % 3) for i in range(8))
        return tuple(TrialWindow(x, 900, loss, x, loss, missed) for x in plain)

    tried = Trial(Reach.REPLICA, BEFORE, REPLICA, 0.2, 2.0, 0.0, force=side(2.0, 3.0), plain=0.2)
    for missed, promoted in ((8.0, True), (12.0, False)):
        finding = trial.judge(replace(tried, tried=side(1.8, missed)))
        assert finding is not None
        assert finding.promoted is promoted
    often = trial.judge(replace(tried, force=side(2.0, 13.0), tried=side(1.8, 12.0)))
    assert often is not None
    assert often.promoted  # what is in force misses more


def test_nothing_begins_while_the_load_climbs() -> None:
    assert not guard.climbing([1000, 900, 1100, 1000, 1200])
    assert guard.climbing([1000, 900, 1100, 1000, 1300])
    now = replace(WELL, climbing=True)
    state, orders = tuner.step(TunerState(BEFORE), TuningMode.AUTO, OBJECTIVE, Tick(400.0, now))
    assert (orders.epoch, orders.reason) == (False, "the load climbs")
    assert tuner.proposed(state, TuningMode.AUTO, SPACE, 400.0, now, Search(1), proposal(POOL))[0].trial is None
    assert tuner.step(begun(POOL), TuningMode.AUTO, OBJECTIVE, Tick(10.0, now))[0].trial is not None


def test_a_trial_replays_from_its_record() -> None:
    tried = Trial(
        Reach.REPLICA,
        BEFORE,
        REPLICA,
        0.2,
        2.0,
        0.0,
        force=tuple(TrialWindow(2 + i / 7, 900, 2.0) for i in range(6)),
        tried=tuple(TrialWindow(1.8 + i / 7, 900, 1.8) for i in range(6)),
    )
    finding = trial.judge(tried)
    assert finding is not None
    figures = json.loads(json.dumps(record.of_trial(tried, finding)))
    assert record.replays(figures)
    figures["tried"][0][0] += 1.0
    assert not record.replays(figures)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Tick(10.0, WELL, trying=TrialArm(200, 6), control=TrialArm(200, 1)), "failed"),
        (Tick(10.0, WELL, trying=TrialArm(200, 0, 0.9), control=TrialArm(200, 0, 0.4)), "p99"),
        (Tick(10.0, WELL, trying=TrialArm(200, restarts=1)), "ended"),
    ],
)
def test_an_alarm_takes_it_back_in_the_same_tick(bad: Tick, why: str) -> None:
    state, orders = tuner.step(begun(REPLICA), TuningMode.AUTO, OBJECTIVE, bad)
    assert orders.happened is TunerEvent.ROLLED_BACK
    assert why in orders.reason
    assert (orders.pool, orders.canary, state.trial) == (BEFORE, None, None)


def test_a_budget_that_burns_twice_takes_it_back() -> None:
    state, orders = tuner.step(begun(POOL), TuningMode.AUTO, OBJECTIVE, Tick(310.0, WELL, burn_now=5.0))
    assert orders.happened is TunerEvent.NOTHING
    _, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(320.0, WELL, burn_now=5.0))
    assert orders.happened is TunerEvent.ROLLED_BACK


def promoted(at_s: float = 0.0, **known: object) -> TunerState:
    """`POOL` in force since `at_s`, on probation."""
    probation = Probation(BEFORE, at_s + guard.PROBATION_S)
    return replace(TunerState(POOL, probation=probation), **known)  # type: ignore[arg-type]


def test_what_was_promoted_goes_back_when_its_first_half_hour_burns_the_budget_twice_on_end() -> None:
    state, _ = minutes(begun(POOL), 60, 2.0, 1.8)
    assert state.probation == Probation(BEFORE, pytest.approx(state.next_epoch_s + guard.PROBATION_S))
    for burn in (5.0, None, 0.0, 5.0, None):  # what is over at once is an accident
        state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(900.0, WELL, burn_force=burn))
        assert orders.pool == POOL
    state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(960.0, WELL, burn_force=5.0))
    assert (orders.happened, orders.pool, state.force, state.probation) == (TunerEvent.WENT_BACK, BEFORE, BEFORE, None)
    assert state.guard.rollbacks == (960.0,)
    assert state.search.trust < Search().trust


def burning(state: TunerState, burn: float, minutes: int, begin_s: float) -> tuple[TunerState, list[float]]:
    """After so many minutes of a burn rate, and when anything went back."""
    went = []
    for minute in range(minutes):
        at_s = begin_s + 60.0 * minute
        state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(at_s, WELL, burn_force=burn))
        went += [minute] * (orders.happened is TunerEvent.WENT_BACK)
    return state, went


def test_what_was_promoted_goes_back_when_any_half_hour_of_a_day_burns_more_than_lasts() -> None:
    state, went = burning(promoted(), 1.0, 600, 60.0)
    assert (state.force, went) == (POOL, []), "the budget is there to be used"
    state, went = burning(state, 5.0, 2, 36_060.0)  # it is fresh no longer: two minutes are an accident
    assert (state.force, went) == (POOL, [])
    state, went = burning(state, 2.0, 30, 36_180.0)
    assert (state.force, len(went)) == (BEFORE, 1)
    state, went = burning(promoted(), 2.0, 60, 60.0)
    assert went == [pytest.approx(41, abs=2)]


def test_what_was_burnt_under_one_promotion_counts_under_the_next() -> None:
    state, _ = burning(promoted(), 0.9, 60, 60.0)
    trying = Trial(Reach.POOL, POOL, {**POOL, "budget_share": 0.6}, 0.2, 2.0, 0.0)
    later, _ = minutes(replace(state, trial=trying), 60, 2.0, 1.8)
    assert later.force != POOL
    assert state.probation is not None
    assert later.probation is not None
    assert later.probation.burn == state.probation.burn > 0.7


@pytest.mark.parametrize(("at_s", "mode"), [(guard.PROBATION_S, TuningMode.AUTO), (60.0, TuningMode.OFF)])
def test_what_held_for_a_day_stays_and_so_does_all_when_it_is_switched_off(at_s: float, mode: TuningMode) -> None:
    state = promoted()
    for _ in range(2):
        state, orders = tuner.step(state, mode, OBJECTIVE, Tick(at_s, WELL, burn_force=5.0))
    assert (orders.pool, state.force, state.probation) == (POOL, POOL, None)


def test_what_was_promoted_twice_goes_back_over_both_and_the_trial_of_more_ends() -> None:
    further = {**POOL, "budget_share": 0.6}
    trying = Trial(Reach.POOL, POOL, further, 0.2, 2.0, 0.0)
    state, _ = minutes(promoted(trial=trying), 60, 2.0, 1.8)
    assert state.force == further
    assert state.probation is not None
    assert state.probation.before == BEFORE
    again = Trial(Reach.POOL, further, POOL, 0.2, 2.0, 1200.0)
    state = replace(state, trial=again, probation=replace(state.probation, burning=1))
    state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(1260.0, WELL, burn_force=5.0))
    assert (orders.happened, orders.pool, state.trial) == (TunerEvent.WENT_BACK, BEFORE, None)


def test_what_a_person_puts_in_force_is_on_no_probation() -> None:
    assert tuner.undone(promoted(), 60.0, POOL).probation is None


def test_what_went_back_replays_from_its_record() -> None:
    known = promoted()
    assert known.probation is not None
    known, tick = replace(known, probation=replace(known.probation, burning=1)), Tick(120.0, WELL, burn_force=5.0)
    _, orders = tuner.step(known, TuningMode.AUTO, OBJECTIVE, tick)
    figures = json.loads(json.dumps(record.of_return(known, TuningMode.AUTO, orders.reason, OBJECTIVE, tick)))
    assert record.replays(figures)
    figures["seen"]["burn_force"] = 1.0
    assert not record.replays(figures)


def test_minutes_before_a_trial_that_make_it_gain_far_more_than_was_promised_do_not_count() -> None:
    """Those in the trial show no gain; those before it were of another time, and cost twice as much."""
    before = tuple(TrialWindow(4.0 + 0.02 * (i % 3), 900) for i in range(trial.MOST_BEFORE))
    tried = Trial(Reach.POOL, BEFORE, POOL, 0.1, 2.0, 0.0, led_in=len(before), force=before)
    turn = tuple(TrialWindow(2.0 + 0.02 * (i % 3), 900) for i in range(trial.MOST_WINDOWS[Reach.POOL]))
    first = replace(tried, tried=turn)
    assert trial.judge(first) is None
    finding = trial.judge(replace(first, force=(*before, *turn)))
    assert finding is not None
    assert not finding.promoted
    alike = tuple(TrialWindow(2.1 + 0.02 * (i % 3), 900) for i in range(trial.MOST_BEFORE))
    finding = trial.judge(replace(first, force=alike))
    assert finding is not None
    assert finding.promoted


def test_a_few_failed_calls_of_hardly_any_are_no_alarm() -> None:
    assert guard.alarm(OBJECTIVE, TunerGuard(), TrialArm(19, 2), TrialArm(200, 0)) is None


def test_a_slow_canary_among_slow_others_is_no_alarm() -> None:
    assert guard.alarm(OBJECTIVE, TunerGuard(), TrialArm(200, 0, 1.0), TrialArm(200, 0, 0.9)) is None


def test_beside_a_switchback_stands_what_was_worst_without_it() -> None:
    arms = [TrialArm(1000, 20, 0.4), TrialArm(1000, 1, 0.9), TrialArm(5, 5, 9.0), TrialArm(1000, 0)]
    assert guard.worst(arms) == TrialArm(1000, 20, 0.9)
    assert guard.worst([]) == TrialArm()


def test_three_rollbacks_in_an_hour_switch_it_off_for_six() -> None:
    known = TunerGuard().rolled_back(0.0).rolled_back(1800.0)
    assert known.off_until_s == 0
    assert known.rolled_back(3599.0).off_until_s == 3599.0 + 6 * 3600
    assert known.rolled_back(3601.0).off_until_s == 0


def test_while_paused_there_is_no_epoch_until_the_time_is_over() -> None:
    state = TunerState(BEFORE, guard=TunerGuard(off_until_s=1000.0))
    state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(500.0, WELL))
    assert not orders.epoch
    _, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(1000.0, WELL))
    assert orders.epoch


@pytest.mark.parametrize(
    "bad",
    [
        {"panicking": True},
        {"shedding": True},
        {"deploying": True},
        {"starting": 6},
        {"burn": 1.5},
        {"burn": None},
        {"calls": None},
        {"trusted": False},
    ],
)
def test_nothing_begins_while_it_is_frozen(bad: dict[str, object]) -> None:
    now = replace(WELL, **bad)  # type: ignore[arg-type]
    state, orders = tuner.step(TunerState(BEFORE), TuningMode.AUTO, OBJECTIVE, Tick(400.0, now))
    assert not orders.epoch
    assert orders.reason
    state, orders = tuner.proposed(state, TuningMode.AUTO, SPACE, 400.0, now, Search(1), proposal(POOL))
    assert state.trial is None
    assert orders.happened is TunerEvent.RECOMMENDED


@pytest.mark.parametrize(
    ("bad", "sought"),
    [
        ({"panicking": True, "burn": 3.0}, True),
        ({"shedding": True, "climbing": True}, True),
        ({"starting": 6}, True),
        ({"deploying": True}, False),
        ({"burn": None}, False),
        ({"calls": None}, False),
    ],
)
def test_where_it_only_recommends_it_looks_for_something_better_in_bad_times_too(
    bad: dict[str, object], sought: bool
) -> None:
    now = replace(WELL, **bad)  # type: ignore[arg-type]
    state, orders = tuner.step(TunerState(BEFORE), TuningMode.RECOMMEND, OBJECTIVE, Tick(400.0, now))
    assert (orders.epoch, orders.pool) == (sought, BEFORE)
    assert bool(orders.reason) is not sought
    state, orders = tuner.proposed(state, TuningMode.RECOMMEND, SPACE, 400.0, now, Search(1), proposal(POOL))
    assert (state.trial, orders.pool, orders.happened) == (None, BEFORE, TunerEvent.RECOMMENDED)


@pytest.mark.parametrize("bad", [{"panicking": True}, {"shedding": True}, {"deploying": True}, {"burn": 1.5}])
def test_trouble_of_another_cause_ends_a_trial_but_is_no_rollback(bad: dict[str, object]) -> None:
    now = replace(WELL, **bad)  # type: ignore[arg-type]
    state, orders = tuner.step(begun(POOL), TuningMode.AUTO, OBJECTIVE, Tick(400.0, now))
    assert orders.happened is TunerEvent.STOPPED
    assert orders.pool == BEFORE
    assert state.guard.rollbacks == ()


def test_with_few_calls_or_by_default_it_only_recommends() -> None:
    quiet = replace(WELL, calls=100)
    for mode, now in ((TuningMode.AUTO, quiet), (TuningMode.RECOMMEND, WELL)):
        state, orders = tuner.proposed(TunerState(BEFORE), mode, SPACE, 0.0, now, Search(1), proposal(POOL))
        assert orders.happened is TunerEvent.RECOMMENDED
        assert orders.pool == BEFORE
        assert state.advice is not None
        assert state.trial is None


def test_off_is_off() -> None:
    state, orders = tuner.step(begun(POOL), TuningMode.OFF, OBJECTIVE, Tick(310.0, WELL))
    assert (orders.pool, state.trial, orders.epoch) == (BEFORE, None, False)
    assert not tuner.step(state, TuningMode.OFF, OBJECTIVE, Tick(900.0, WELL))[1].epoch


def test_a_proposal_from_another_ground_is_dropped() -> None:
    state, orders = tuner.proposed(TunerState(POOL), TuningMode.AUTO, SPACE, 0.0, WELL, Search(1), proposal(REPLICA))
    assert state.trial is None
    assert orders.pool == POOL


def test_what_a_person_puts_in_force_ends_a_trial() -> None:
    state = tuner.undone(begun(POOL), 100.0, REPLICA)
    _, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(110.0, WELL))
    assert orders.pool == REPLICA
    assert not orders.epoch


def test_a_search_that_stopped_wakes_when_the_ground_drifts() -> None:
    state = TunerState(BEFORE, search=Search(still=3))
    happened = []
    for i in range(60):
        rate = 100.0 + i % 3 + (60.0 if i >= 30 else 0.0)
        state, orders = tuner.step(state, TuningMode.AUTO, OBJECTIVE, Tick(60.0 * i, WELL, ground=(("rate", rate),)))
        happened.append((orders.happened, orders.epoch))
    assert not any(epoch for _, epoch in happened[:30])
    assert (TunerEvent.DRIFTED, True) in happened[30:]


def test_drift_is_a_lasting_change_and_not_one_wild_value() -> None:
    watch = DriftWatch()
    for i in range(40):
        watch = watch.after(100.0 + i % 5 + (1000.0 if i == 20 else 0.0))
        assert not watch.drifted


@pytest.mark.parametrize("after", [POOL, REPLICA])
@pytest.mark.parametrize(("tried", "outcome"), [(1.8, TunerEvent.PROMOTED), (2.3, TunerEvent.REJECTED)])
def test_a_requested_trial_without_a_prediction_is_judged_by_live_windows_alone(
    after: KnobValues, tried: float, outcome: TunerEvent
) -> None:
    state, orders = tuner.attempted(
        TunerState(BEFORE), SPACE.reach(BEFORE, after), 0.0, WELL, (BEFORE, after), 0.0, 2.0
    )
    assert orders.happened is TunerEvent.BEGAN
    state, seen = minutes(state, 200, 2.0, tried)
    assert seen[-1] is outcome
    assert state.force == (after if outcome is TunerEvent.PROMOTED else BEFORE)
    assert state.search.trust == Search().trust  # it was not the search's idea


def test_without_a_promise_one_must_be_surer() -> None:
    gains = (0.06, 0.03, -0.01, 0.05, 0.01, -0.01)
    windows = tuple(TrialWindow(2.0, 900) for _ in gains), tuple(TrialWindow(2.0 - g, 900) for g in gains)
    tried = Trial(Reach.REPLICA, BEFORE, REPLICA, 0.0, 2.0, 0.0, force=windows[0], tried=windows[1])
    assert tried.measured is not None
    gain, error = tried.measured
    assert trial.SURE < gain / error < trial.SURE_UNPROMISED
    assert trial.judge(tried) is None
