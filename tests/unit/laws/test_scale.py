"""Our scaling law, example by example, and the cases that other autoscalers got wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from kaon.laws import forecast
from kaon.laws.scale import Scale, ScaleState
from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.service_time import ServiceTime, learn
from kaon.types.deployment import Floor
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

LAW = Scale(Objective(latency_s=0.4, deadline_s=0.5), max_batch=8)
BOUNDS = Bounds(1, 100)
A, B = 0.02, 0.08


def batches(calls: int) -> Batches:
    """`calls` calls served in batches of 4 and 6 rows, at s(n) = A n + B."""
    sizes = [4, 6] * (calls // 10)
    times = [A * n + B for n in sizes]
    return Batches(
        count=len(sizes),
        rows=sum(sizes),
        seconds=sum(times),
        rows_squared=sum(n * n for n in sizes),
        rows_seconds=sum(n * t for n, t in zip(sizes, times, strict=True)),
    )


def seen(at_s: float, calls: int | None, replicas: int, **more: object) -> Observation:
    fields = {
        "at_s": at_s,
        "span_s": 2.0,
        "arrivals": calls,
        "answered": calls,
        "missed": None if calls is None else 0,
        "in_flight": None if calls is None else calls // 8,
        "queued": 0,
        "batches": batches(calls or 0),
        "ready": replicas,
    }
    return Observation.model_validate(fields | more)


def follow(
    calls: list[int | None], law: Scale = LAW, bounds: Bounds = BOUNDS, state: ScaleState | None = None, at_s: float = 0
) -> tuple[ScaleState, list[ScalingDecision]]:
    """The law at work, each decision in force at the next tick."""
    state = law.begin() if state is None else state
    decisions: list[ScalingDecision] = []
    replicas = bounds.min
    for i, count in enumerate(calls):
        state, decision = law.step(state, bounds, seen(at_s + 2.0 * (i + 1), count, replicas))
        decisions.append(decision)
        replicas = decision.replicas
    return state, decisions


def test_steady_load_gets_the_replicas_of_square_root_staffing() -> None:
    _, decisions = follow([600] * 900)
    busy = 300 * (A * 8 + B) / 8
    assert busy <= decisions[-1].replicas <= math.ceil(1.3 * busy)
    assert len({d.replicas for d in decisions[-100:]}) <= 2


def test_more_load_gets_more_replicas_at_once() -> None:
    state, before = follow([200] * 300)
    _, after = follow([800] * 10, state=state, at_s=600)
    assert after[-1].replicas >= 3 * before[-1].replicas


def test_less_load_lets_replicas_go_but_not_within_the_hold() -> None:
    state, before = follow([800] * 300)
    _, after = follow([200] * 400, state=state, at_s=600)
    assert after[2].replicas >= 0.8 * before[-1].replicas
    assert after[-1].replicas <= 0.5 * before[-1].replicas


def test_bursts_shorter_than_a_start_are_met_by_holding_capacity() -> None:
    _, decisions = follow(([100] * 57 + [1200] * 3) * 12)
    quiet = decisions[60 * 10 + 40]
    assert quiet.replicas * 8 / (A * 8 + B) >= 0.9 * 600


def test_a_reason_names_the_numbers_behind_it() -> None:
    _, decisions = follow([600] * 300)
    assert "calls/s at" in decisions[-1].reason
    assert "replicas' worth" in decisions[-1].reason


def test_zero_traffic_without_figures_to_divide_by_still_scales_down() -> None:
    """A mean of nothing is NaN in some sources; it must read as missing, and zero arrivals still count."""
    state, _ = follow([600] * 300)
    replicas = 20
    for i in range(400):
        observation = seen(602 + 2.0 * i, 0, replicas, in_flight=0, busy_s=float("nan"), cold_start_s=float("nan"))
        assert observation.busy_s is None
        state, decision = LAW.step(state, BOUNDS, observation)
        replicas = decision.replicas
    assert replicas == 1


def test_missing_figures_change_nothing() -> None:
    state, decisions = follow([600] * 300)
    _, after = follow([None] * 200, state=state, at_s=600)
    assert {d.replicas for d in after} == {decisions[-1].replicas}
    assert "no figures" in after[-1].reason


def test_a_replica_that_cannot_start_blocks_no_decision() -> None:
    stuck = seen(0, 0, 0).model_copy(update={"starting": 3})
    state = LAW.begin()
    wanted = []
    for i in range(300):
        calls = 200 if i < 150 else 800
        state, decision = LAW.step(
            state, BOUNDS, seen(2.0 * (i + 1), calls, 4).model_copy(update={"starting": stuck.starting})
        )
        wanted.append(decision.replicas)
    assert wanted[-1] > 2 * wanted[149]


def test_load_between_two_counts_does_not_swing_from_one_to_the_other() -> None:
    calls = [50 + (8 if (i // 10) % 2 else -8) for i in range(1500)]
    _, decisions = follow(calls)
    late = [d.replicas for d in decisions[600:]]
    changes = sum(a != b for a, b in pairwise(late))
    assert changes <= 4


def test_no_load_never_scales_up() -> None:
    _, decisions = follow([0] * 600, bounds=Bounds(0, 100))
    assert {d.replicas for d in decisions} == {0}


def test_the_last_replica_goes_only_after_its_keep_alive() -> None:
    law = replace(LAW, keep_alive_s=100.0)
    state, _ = follow([20] * 60, law, Bounds(0, 10))
    _, after = follow([0] * 120, law, Bounds(0, 10), state, at_s=120)
    gone = next(i for i, d in enumerate(after) if d.replicas == 0)
    assert 2.0 * (gone + 1) == pytest.approx(100, abs=4)
    assert "no call for" in after[gone].reason


def test_misses_raise_the_headroom_and_their_absence_lowers_it() -> None:
    state, _ = follow([600] * 300)
    worse = state
    for i in range(60):
        worse, _ = LAW.step(worse, BOUNDS, seen(602 + 2.0 * i, 600, 12, missed=30))
    better, _ = follow([600] * 60, state=state, at_s=600)
    assert worse.headroom.factor > state.headroom.factor > better.headroom.factor


def test_a_steady_load_that_breaks_down_finds_its_replicas_when_it_comes_back() -> None:
    steady, gone = [200] * 200, [0] * 20 + [2] + [0] * 20
    state, before = follow(steady)
    kept, gap = follow(gone, state=state, at_s=400.0)
    assert {decision.replicas for decision in gap} == {before[-1].replicas}
    _, later = follow([0] * 150, state=kept, at_s=482.0)
    assert later[-1].replicas < before[-1].replicas


def test_a_load_that_pauses_by_itself_is_followed_down() -> None:
    state, before = follow([200] * 200)
    state, _ = follow([200, 0, 0, 0] * 30, state=state, at_s=400.0)
    _, after = follow([200, 0, 0, 0] * 10 + [0] * 40, state=state, at_s=640.0)
    assert after[-1].replicas < before[-1].replicas


def test_panic_does_not_go_down() -> None:
    state, _ = follow([100] * 300)
    state, up = LAW.step(state, BOUNDS, seen(602, 2000, 3))
    _, down = LAW.step(state, BOUNDS, seen(604, 0, 3, in_flight=100))
    assert down.replicas >= up.replicas


def test_a_queue_adds_replicas() -> None:
    state, _ = follow([600] * 300)
    _, plain = LAW.step(state, BOUNDS, seen(602, 600, 12))
    _, queued = LAW.step(state, BOUNDS, seen(602, 600, 12, queued=3000, in_flight=3100))
    assert queued.replicas >= plain.replicas + 3
    assert "backlog" in queued.reason


def test_floors_by_schedule_hold_at_their_hours_also_over_midnight() -> None:
    nights = Bounds(1, 50, (Floor(replicas=7, start="22:00", end="06:00"),))
    assert nights.clip(2, 23 * 3600.0) == 7
    assert nights.clip(2, 5 * 3600.0) == 7
    assert nights.clip(2, 12 * 3600.0) == 2


def test_service_time_is_learnt_from_sums() -> None:
    known = ServiceTime()
    for _ in range(50):
        known = learn(known, batches(100))
    a, b = known.line()
    assert (a, b) == (pytest.approx(A), pytest.approx(B))
    assert known.best(8, 0.5)[0] == 8
    assert known.best(8, 0.3)[0] == 3


def test_calls_that_carry_many_rows_cost_as_many() -> None:
    _, one_row_each = follow([400] * 60)
    law, state, replicas = LAW, LAW.begin(), 1
    decisions: list[ScalingDecision] = []
    for i in range(60):  # the same 400 rows in every two seconds, in calls of ten
        state, decision = law.step(state, BOUNDS, seen(2.0 * (i + 1), 40, replicas, batches=batches(400), began=40))
        replicas = decision.replicas
        decisions.append(decision)
    assert state.service.rows_per_call == pytest.approx(10)
    assert decisions[-1].replicas == pytest.approx(one_row_each[-1].replicas, abs=1)


def test_calls_whose_batch_has_not_ended_are_counted_when_it_has() -> None:
    service = learn(learn(ServiceTime(), batches(100), 50), Batches(), 50)
    assert service.rows_per_call == pytest.approx(1)
    assert learn(ServiceTime(), batches(100)).rows_per_call == 1


def test_batches_of_one_size_put_all_time_down_to_the_batch() -> None:
    known = learn(ServiceTime(), Batches(count=10, rows=10, seconds=1.0, rows_squared=10, rows_seconds=1.0))
    assert known.line() == (0.0, pytest.approx(0.1))


def test_a_steady_climb_is_forecast() -> None:
    known = forecast.Forecast()
    for i in range(200):
        known = forecast.learn(known, 2.0 * i, 100 + 2.0 * i, 20.0)
    assert known.ahead(20.0) == pytest.approx(100 + 398 + 20, rel=0.05)
    assert known.high(20.0) >= known.ahead(20.0)


def test_before_a_call_has_ended_calls_in_flight_count_by_what_a_replica_runs_at_once() -> None:
    law = Scale(Objective(), at_once=16)
    _, decision = law.step(law.begin(), Bounds(1, 50), seen(2.0, 40, 1, in_flight=40, batches=Batches()))
    assert decision.replicas == 3
