"""Samples added up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws import traffic
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.traffic import LATENCY_BOUNDS_S, ColdStart, Sample

OBJECTIVE = Objective(latency_s=0.5, completion=0.9)  # missed after 1 s


def bucket(latency_s: float) -> int:
    return sum(bound < latency_s for bound in LATENCY_BOUNDS_S)


def sample(at_s: float = 10, revision: int = 1, span_s: float = 1, **fields: object) -> Sample:
    return Sample.model_validate(
        {"workspace": "default", "deployment": "shop", "revision": revision, "at_s": at_s, "span_s": span_s} | fields
    )


def test_quantiles_lie_in_the_bucket_of_the_call_at_that_rank() -> None:
    histogram = {bucket(0.1): 90, bucket(1.0): 9, bucket(10.0): 1}
    assert traffic.quantile(histogram, 0.5) == pytest.approx(0.1, rel=0.2)
    assert traffic.quantile(histogram, 0.95) == pytest.approx(1.0, rel=0.2)
    assert traffic.quantile(histogram, 0.999) == pytest.approx(10.0, rel=0.2)
    assert traffic.quantile(histogram, 0.9) == LATENCY_BOUNDS_S[bucket(0.1)]


def test_without_calls_there_is_no_quantile_and_above_all_bounds_it_is_the_last_one() -> None:
    assert traffic.quantile(None, 0.5) is None
    assert traffic.quantile({}, 0.5) is None
    assert traffic.quantile({3: 0}, 0.5) is None
    assert traffic.quantile({len(LATENCY_BOUNDS_S): 4}, 0.5) == LATENCY_BOUNDS_S[-1]


def test_calls_above_a_latency_count_by_their_part_of_its_bucket() -> None:
    low, high = LATENCY_BOUNDS_S[20], LATENCY_BOUNDS_S[21]
    histogram = {5: 7, 21: 8, 30: 2}
    assert traffic.above(histogram, low) == 10
    assert traffic.above(histogram, (low + high) / 2) == pytest.approx(6)
    assert traffic.above(histogram, high) == 2
    assert traffic.above({len(LATENCY_BOUNDS_S): 3}, LATENCY_BOUNDS_S[-1]) == 3
    assert traffic.above(None, 1) == 0


def test_counts_add_over_seconds_revisions_and_clouds_and_gauges_are_of_the_newest_moment_of_each_cloud() -> None:
    whole = traffic.merge(
        [
            sample(9, cloud="a", arrivals=5, codes={"2xx": 4}, latency={3: 4}, in_flight=9, ready=9, busy_s=0.5),
            sample(10, cloud="a", arrivals=1, codes={"2xx": 1, "5xx": 2}, latency={3: 1}, in_flight=2, ready=2),
            sample(10, 2, cloud="a", arrivals=1, in_flight=1, ready=1, starting=1, memory_bytes=50),
            sample(9.5, 2, cloud="b", arrivals=1, in_flight=3, ready=3, held=4, memory_bytes=70),
        ]
    )
    assert (whole.at_s, whole.span_s, whole.revision, whole.cloud) == (10, 2, 0, "")
    assert (whole.arrivals, whole.codes, whole.latency) == (8, {"2xx": 5, "5xx": 2}, {3: 5})
    assert (whole.in_flight, whole.ready, whole.starting, whole.held) == (6, 6, 1, 4)
    assert (whole.busy_s, whole.ready_s, whole.paid_s) == (0.5, 15, 16)
    assert whole.memory_bytes == 70, "of the fullest replica, not of all together"


def test_a_count_is_unknown_only_when_no_sample_has_it() -> None:
    assert traffic.merge([sample(9), sample(10)]).arrivals is None
    assert traffic.merge([sample(9), sample(10)]).codes is None
    assert traffic.merge([sample(9, arrivals=0), sample(10)]).arrivals == 0
    assert traffic.merge([sample(9, in_flight=3), sample(10)]).in_flight is None


def test_missing_stale_and_zero_make_three_different_windows() -> None:
    missing = traffic.window([], 100, 60, OBJECTIVE)
    assert (missing.at_s, missing.covered_s, missing.arrivals, missing.rps) == (0, 0, None, None)
    zero = traffic.window([sample(100, arrivals=0, codes={})], 100, 60, OBJECTIVE)
    assert (zero.arrivals, zero.rps, zero.failed, zero.p50_s, zero.loss) == (0, 0, None, None, None)
    stale = traffic.window([sample(70, arrivals=3)], 100, 60, OBJECTIVE)
    assert (stale.at_s, stale.covered_s, stale.rps) == (70, 1, 3)
    unknown = traffic.window([sample(100, codes={"2xx": 1})], 100, 60, OBJECTIVE)
    assert (unknown.covered_s, unknown.arrivals, unknown.rps) == (1, None, None)


def test_a_rate_is_over_the_seconds_that_samples_cover() -> None:
    two_revisions = [sample(at, revision, arrivals=5) for at in (97, 98, 100) for revision in (1, 2)]
    found = traffic.window([*two_revisions, sample(40, arrivals=100)], 100, 60, OBJECTIVE)
    assert (found.covered_s, found.arrivals, found.rps) == (3, 30, 10)


def test_a_window_tells_shares_means_and_quantiles() -> None:
    found = traffic.window(
        [
            sample(
                arrivals=12,
                codes={"2xx": 6, "4xx": 1, "5xx": 1, "shed": 1, "none": 1},
                latency={bucket(0.1): 8},
                queue_s=3.0,
                began=6,
                busy_s=1.5,
                ready=2,
                batches=Batches(count=2, rows=7, seconds=1, rows_squared=25, rows_seconds=4),
                starts=(ColdStart(replica="a", install_s=1, start_s=2, load_s=3), ColdStart(replica="b")),
            )
        ],
        10,
        12,
        OBJECTIVE,
    )
    assert (found.failed, found.queue_s, found.busy, found.batch_rows, found.start_s) == (0.3, 0.5, 0.75, 3.5, 3)


def test_a_late_answer_is_a_miss_and_so_is_a_failure_and_what_the_caller_did_wrong_is_none() -> None:
    codes = {"2xx": 90, "4xx": 5, "5xx": 2, "shed": 2, "none": 1}
    calls = sample(arrivals=100, codes=codes, latency={bucket(0.1): 90, bucket(5.0): 4}, busy_s=0.7, ready=1)
    seen = traffic.observation([calls], 11, 2, OBJECTIVE)
    assert (seen.at_s, seen.span_s, seen.answered, seen.missed) == (11, 1, 100, 9)
    found = traffic.parts(calls, OBJECTIVE, price=2.0)
    assert found is not None
    assert found.completed == 0.91
    assert (found.completion, found.utilisation, found.cost) == (0, 0, pytest.approx(1.0))
    assert found.total == pytest.approx(found.cost + found.latency)


def test_without_samples_an_observation_has_no_figures() -> None:
    seen = traffic.observation([], 11, 2, OBJECTIVE)
    assert (seen.at_s, seen.span_s, seen.arrivals, seen.missed, seen.cold_start_s) == (11, 2, None, None, None)


def test_there_is_no_sum_of_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        traffic.merge([])


COUNTS = st.none() | st.integers(0, 50)
SAMPLES = st.lists(
    st.builds(
        sample,
        at_s=st.integers(1, 20),
        revision=st.integers(0, 2),
        arrivals=COUNTS,
        codes=st.none() | st.dictionaries(st.sampled_from(["2xx", "5xx", "shed", "none"]), st.integers(0, 9)),
        latency=st.none() | st.dictionaries(st.integers(0, len(LATENCY_BOUNDS_S)), st.integers(0, 9)),
        in_flight=COUNTS,
        busy_s=st.none() | st.integers(0, 5),
        ready=st.integers(0, 5),
        cloud=st.sampled_from(["a", "b"]),
    ),
    min_size=1,
    max_size=12,
)


@given(SAMPLES, st.integers(1, 11))
def test_sums_of_sums_are_the_sums(samples: list[Sample], cut: int) -> None:
    whole = traffic.merge(samples)
    first, rest = samples[:cut], samples[cut:]
    by_parts = traffic.merge([traffic.merge(first), *([traffic.merge(rest)] if rest else [])])
    for field in ("at_s", "span_s", "arrivals", "codes", "latency", "busy_s", "batches", "starts"):
        assert getattr(by_parts, field) == getattr(whole, field), field
    if rest:
        assert by_parts.ready_s == whole.ready_s


@given(SAMPLES, st.floats(0.001, 200))
def test_shares_are_shares_and_quantiles_rise(samples: list[Sample], latency_s: float) -> None:
    whole = traffic.merge(samples)
    total = sum((whole.latency or {}).values())
    assert 0 <= traffic.above(whole.latency, latency_s) <= total
    found = [traffic.quantile(whole.latency, q) for q in (0.0, 0.5, 0.9, 0.99, 1.0)]
    assert found == [None] * 5 if not total else found == sorted(found)  # type: ignore[type-var]
    seen = traffic.observation(samples, 20, 2, OBJECTIVE)
    assert seen.missed is None or (seen.answered is not None and 0 <= seen.missed <= seen.answered)
    parts = traffic.parts(whole, OBJECTIVE)
    assert parts is None or (0 <= parts.completed <= 1 and parts.total >= 0)
