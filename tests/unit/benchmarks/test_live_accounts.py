"""What `make bench-live` compares is comparable: replicas are counted alike, laws differ in nothing but their pace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmarks.live import census, loads, quickened
from benchmarks.live.census import Census

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.laws.scaling_peers import Knative, RayServe
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

TIMES = 4.0
BATCHES = Batches(count=10, rows=60, seconds=4.0, rows_squared=372, rows_seconds=24.5)


def seen(second: int) -> Observation:
    """One second of a rate that swings, as a platform tells it."""
    calls = 60 + 50 * (second // 20 % 2)
    return Observation(
        at_s=100.0 + second,
        span_s=1.0,
        arrivals=calls,
        answered=calls,
        missed=0,
        in_flight=calls // 2,
        queued=4,
        ready=8,
        batches=BATCHES,
        cold_start_s=5.0,
    )


def slowed(second: Observation) -> Observation:
    """The same of a service that is four times as slow, four times as long."""
    batches = second.batches.model_copy(update={"seconds": 16.0, "rows_seconds": 98.0})
    return second.model_copy(update={"at_s": 4 * second.at_s, "span_s": 4.0, "cold_start_s": 20.0, "batches": batches})


@pytest.mark.parametrize("law", [Scale(Objective(), 8), Knative(), RayServe()], ids=lambda law: type(law).__name__)
def test_a_quickened_law_decides_as_the_law_itself_on_a_slower_service(law: ScalingLaw) -> None:
    quick = quickened.quickened(law, TIMES)
    state, quick_state, bounds = law.begin(), quick.begin(), Bounds(1, 30)
    decided, quickly = [], []
    for second in range(120):
        state, decision = law.step(state, bounds, slowed(seen(second)))
        decided.append(decision)
        quick_state, decision = quick.step(quick_state, bounds, seen(second))
        quickly.append(decision)
    assert quickly == decided
    assert isinstance(quick, type(law))


def test_replica_seconds_are_summed_between_two_times_only() -> None:
    counted = Census(lambda command: None, seen=[(0.0, Counter(a=2)), (10.0, Counter(a=4)), (20.0, Counter(a=1))])
    assert counted.replica_seconds("a", 5.0, 25.0) == 2 * 5 + 4 * 10 + 1 * 5
    assert counted.series("a", 0.0, 21)[8:11] == [2, 4, 4]


def test_replicas_are_known_by_what_the_system_says_of_their_processes(tmp_path: Path) -> None:
    named = census.of_kaon(tmp_path, lambda launch: launch.parent.name)
    command = f"python -P -s -m kaon.runtime --launch {tmp_path}/agent/replicas/0123456789ab/launch.json"
    assert named(command) == "0123456789ab"
    assert named(f"vi {tmp_path}/agent/plan.json") is None
    assert census.of_ray("ray::ServeReplica:default:Sleeper.handle_request") == "sleeper"
    assert census.of_ray("ray::ProxyActor") is None


def test_a_compressed_trace_keeps_its_calls_in_proportion_and_its_mean_within_the_fleet() -> None:
    load = loads.compressed(loads.loads.generated(1200)[1], 300)
    arrivals = load.arrivals_ns()
    assert load.times == 4.0
    assert 0 <= arrivals[0] <= arrivals[-1] < 300 * 10**9
    assert len(arrivals) == pytest.approx(300 * loads.MEAN_RPS, rel=0.05)
    assert (arrivals == load.arrivals_ns()).all()
