"""What `make bench-tune-live` compares is comparable: quick controllers are told of the same service, only slower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.autoscale.loads import Load
from benchmarks.tune_live import loads, score
from benchmarks.tune_live.pace import Pace, QuickRing, histogram, sample
from benchmarks.tune_live.score import Counted, Heard

from kaon.laws.traffic import quantile
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.traffic import LATENCY_BOUNDS_S, ColdStart, Sample, Traffic

TIMES = 2 ** (14 / 4)
PACE = Pace(TIMES, since=1000.0)
OBJECTIVE = Objective(latency_s=1.0, deadline_s=2.0, completion=0.9)
SECOND = Sample(
    workspace="default",
    deployment="shop",
    revision=1,
    cloud="local",
    at_s=1010.0,
    span_s=1.0,
    arrivals=8,
    codes={"2xx": 8},
    latency={36: 6, 40: 2},
    busy_s=0.5,
    batches=Batches(count=2, rows=8, seconds=0.5, rows_squared=32, rows_seconds=2.0, seconds_squared=0.125),
    ready=1,
    starts=(ColdStart(replica="a", start_s=0.5, load_s=2.0),),
)


def test_latencies_so_many_times_as_long_stay_in_whole_buckets() -> None:
    slow = quantile(histogram({36: 10}, TIMES), 0.5)
    quick = quantile({36: 10}, 0.5)
    assert slow is not None
    assert quick is not None
    assert slow == pytest.approx(TIMES * quick, rel=0.01)
    assert sum(histogram(dict.fromkeys(range(len(LATENCY_BOUNDS_S) + 1), 1), TIMES).values()) == 1 + len(
        LATENCY_BOUNDS_S
    )


def test_a_sample_in_quick_seconds_has_the_same_counts_and_longer_times() -> None:
    told = sample(SECOND, PACE)
    assert (told.arrivals, told.codes, told.ready, told.batches.rows) == (8, {"2xx": 8}, 1, 8)
    assert told.at_s == pytest.approx(1000 + 10 * TIMES)
    assert (told.span_s, told.busy_s) == (TIMES, 0.5 * TIMES)
    assert told.batches.seconds / told.batches.count == pytest.approx(0.25 * TIMES)
    assert told.batches.seconds_squared / told.batches.seconds**2 == pytest.approx(0.5)
    assert told.starts[0].total_s == pytest.approx(2.5 * TIMES)


def test_the_agent_is_told_in_its_own_time_how_far_its_samples_are_here(tmp_path: Path) -> None:
    ring = QuickRing(PACE, tmp_path / "notes")
    assert ring.add(Traffic(cloud="local", samples=(SECOND,)), 1010.5) == SECOND.at_s
    assert ring.add(Traffic(cloud="local", after_s=SECOND.at_s, samples=()), 1010.7) == SECOND.at_s
    following = SECOND.model_copy(update={"at_s": 1011.0})
    again = Traffic(cloud="local", samples=(SECOND, following))
    assert ring.add(again, 1011.2) == following.at_s
    assert [s.arrivals for s in ring.since("default", "shop", 0.0)] == [8, 8]


def test_calls_count_in_the_minute_in_which_they_came() -> None:
    heard = Heard(
        arrivals_ns=np.array([0, int(4e9), int(6e9), int(7e9)]),
        latency_ns=np.array([int(0.1e9), int(3e9), int(0.1e9), 0]),
        outcome=np.array([0, 1, 0, 2], dtype=np.uint8),
    )
    counted = [Counted(1.0, 2.0, 2.0), Counted(1.0, 2.0, 3.0)]
    first, second = score.windows(OBJECTIVE, heard, counted, 5.0)
    assert (first.arrivals, first.well, second.arrivals, second.well) == (2, 1, 2, 1)
    assert first.latency_losses == pytest.approx(2.0)
    assert second.latency_losses == pytest.approx(3.0), "a call that was refused is the worst"
    told = score.told(OBJECTIVE, heard, [first, second], 5.0, 1.0)
    assert told["whole"]["attainment"] == 0.5
    assert told["later"]["shed"] == 1
    assert told["later"]["calls"] == 2
    assert told["unsafe"] == [True, True]


def test_a_load_that_is_over_begins_again() -> None:
    assert loads.filled(Load("x", (1.0, 2.0, 3.0), 0.0), 7).rates == (1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0)
