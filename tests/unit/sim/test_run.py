"""Laws at work in the simulator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.scaling_peers import Knative
from kaon.sim import memory
from kaon.sim.engine import Truth, deployment
from kaon.sim.run import SimulationSetting, run
from kaon.sim.traffic import arrivals
from kaon.types.objective import Objective
from kaon.types.observation import Observation

OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.5)
SETTING = SimulationSetting(
    Truth(start_s=6.0, start_p95_s=8.0),
    OBJECTIVE,
    Bounds(1, 40),
    first_replicas=6,
    scored_from_s=60.0,
    slots=64,
    compiled=False,
)


@dataclass
class Told:
    """Decides as given, and records the observations."""

    replicas: int

    def begin(self) -> list[Observation]:
        return []

    def step(
        self, state: list[Observation], bounds: Bounds, seen: Observation
    ) -> tuple[list[Observation], ScalingDecision]:
        state.append(seen)
        return state, ScalingDecision(self.replicas, "told")


def test_the_production_law_holds_its_objective_on_load_that_doubles() -> None:
    calls = arrivals([40.0] * 240 + [80.0] * 240, 1)
    outcome = run(Scale(OBJECTIVE, 8), replace(SETTING, scored_from_s=180.0), calls, 1)
    assert outcome.attainment >= 0.97
    assert outcome.whole.paid_s / 300 < 8


def test_the_same_seed_gives_the_same_outcome_and_another_seed_another() -> None:
    calls = arrivals([40.0] * 120, 1)
    first, again, other = (run(Knative(), SETTING, calls, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_figures_reach_the_law_late_but_replica_counts_are_fresh() -> None:
    saw: list[Observation] = []
    calls = arrivals([10.0] * 20 + [0.0] * 40 + [1.0] * 10, 1)
    setting = replace(SETTING, stale_s=10.0, scored_from_s=0.0)
    run(Told(3), setting, calls, 1, watch=lambda seen, *_: saw.append(seen))
    quiet_from = next(o.at_s for o in saw if o.arrivals == 0)
    assert quiet_from >= 30
    assert saw[0].at_s == 12.0
    assert saw[0].ready == 6


def test_every_call_is_scored_once_and_unanswered_ones_are_misses() -> None:
    calls = arrivals([30.0] * 180, 1)
    outcome = run(Told(1), SETTING, calls, 1)
    scored = sum(1 for t in calls if t >= 60_000_000_000)
    assert outcome.whole.arrivals == scored
    assert outcome.whole.well < scored


def test_more_replicas_cost_more_and_answer_sooner() -> None:
    calls = arrivals([60.0] * 180, 1)
    few, many = (run(Told(n), SETTING, calls, 1) for n in (3, 9))
    assert many.replica_seconds > few.replica_seconds
    assert many.latency_p90_s < few.latency_p90_s
    assert many.worst(1) >= few.worst(1)


@pytest.mark.slow
def test_plain_python_and_compiled_code_agree_to_the_last_bit() -> None:
    pytest.importorskip("numba")
    calls = arrivals([20.0] * 60 + [90.0] * 60 + [5.0] * 60, 3)
    truth = Truth(start_s=6.0, start_p95_s=9.0, stragglers=0.01, slow=0.1, life_s=60.0)
    for law, slots, max_wait_s in ((Scale(OBJECTIVE, 8), 1, 0.0), (Knative(), 1, 0.1), (Scale(OBJECTIVE, 8), 4, 0.02)):
        true = replace(truth, slots=slots, max_wait_s=max_wait_s)
        plain, compiled = (run(law, replace(SETTING, truth=true, compiled=c), calls, 3) for c in (False, True))
        assert plain == compiled


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0.01, 5.0), st.integers(0, 30)), min_size=1, max_size=25),
    st.lists(st.floats(0, 80), min_size=1, max_size=40),
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.05, 2.0]),
    st.integers(0, 1000),
)
def test_no_call_is_lost_or_counted_twice_whatever_is_scaled(
    orders: list[tuple[float, int]],
    rates: list[float],
    shared: bool,
    mortal: bool,
    slots: int,
    max_wait_s: float,
    seed: int,
) -> None:
    life_s = 10.0 if mortal else None
    truth = Truth(start_s=2.0, start_p95_s=3.0, life_s=life_s, shared_queue=shared, slots=slots, max_wait_s=max_wait_s)
    made = deployment(truth, OBJECTIVE, arrivals(rates, seed), seed=seed, slots=32, compiled=False)
    now_s = 0.0
    for after_s, replicas in orders:
        made.scale(replicas)
        now_s += after_s
        made.advance(now_s)
        c = made.world.counts
        assert c[memory.ARRIVED] == c[memory.ANSWERED] + c[memory.IN_FLIGHT]
        assert 0 <= c[memory.QUEUED] <= c[memory.IN_FLIGHT]
        assert 0 <= c[memory.READY] + c[memory.COMING] <= c[memory.ALIVE] <= 32
        assert c[memory.FREE] + c[memory.ALIVE] == 32
    made.advance(now_s + 100)
    for second in range(60):
        made.scale(2)
        made.advance(now_s + 100 + second)
    c = made.world.counts
    assert c[memory.IN_FLIGHT] == 0
    assert c[memory.QUEUED] == 0
    assert c[memory.ANSWERED] == len(made.world.arrivals)
