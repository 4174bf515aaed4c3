"""What the tuner remembers: nothing is lost, nothing grows without bound, and copies stay as they are."""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws import contest
from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds
from kaon.laws.tune.past import KEPT_S, WEEK_MINUTES, Past
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation
from kaon.types.traffic import ColdStart, Sample

NOW = 1_700_000_040.0
"""A whole minute."""


def filled(counts: list[int], from_s: float = NOW) -> Past:
    past = Past()
    for i, count in enumerate(counts, start=1):
        past.second(from_s + i, count, answered=count, ready=2, latency={30: count} if count else None)
    return past


@given(st.lists(st.integers(0, 500), min_size=1, max_size=200))
def test_all_that_came_is_there_second_by_second(counts: list[int]) -> None:
    past = filled(counts)
    assert list(past.counts(NOW, NOW + len(counts))) == counts
    sums = past.sums(NOW, NOW + 200)
    assert sums.arrivals == sum(counts)
    assert round(sums.answered) == sum(counts) == sum(sums.latency.values())
    assert round(sums.ready_s) == 2 * len(counts) == 2 * round(sums.covered_s)


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from([0.9, 1.0, 1.1, 2.0, 10.0])), max_size=30))
def test_whatever_the_spans_are_no_call_is_lost_or_counted_twice(told: list[tuple[int, float]]) -> None:
    past, at_s = Past(), NOW
    for count, span_s in told:
        at_s += span_s
        past.second(at_s, count, span_s=span_s, missed=count)
    assert sum(past.counts(NOW - 10, at_s + 10)) == sum(count for count, _ in told)
    assert round(past.sums(NOW - 60, at_s + 60).missed) == sum(count for count, _ in told)


def test_several_revisions_and_late_ones_add_up() -> None:
    past = filled([5, 5, 5, 5])
    past.second(NOW + 2, 3, batches=Batches(count=1, rows=3, seconds=0.1))
    past.second(NOW + 2 - KEPT_S - 60, 99)
    assert list(past.counts(NOW, NOW + 4)) == [5, 8, 5, 5]
    assert past.sums(NOW, NOW + 10).batches.rows == 3


def test_after_two_hours_the_oldest_is_gone_and_a_gap_is_no_traffic() -> None:
    past = filled([1] * 100)
    past.second(NOW + KEPT_S + 50, 7)
    assert sum(past.counts(NOW, NOW + 50)) == 0
    assert sum(past.counts(NOW + 50, NOW + 100)) == 50
    assert past.sums(NOW + 100, NOW + KEPT_S).covered_s == 0
    past.second(NOW + 3 * KEPT_S, 7)
    assert sum(past.counts(NOW, NOW + 3 * KEPT_S)) == 7


def test_a_sum_over_ten_seconds_is_spread_over_them() -> None:
    past = Past()
    starts = (ColdStart(replica="r1", load_s=4.0),)
    sample = Sample(
        workspace="w", deployment="d", revision=1, at_s=NOW + 10, span_s=10, arrivals=25, codes={"2xx": 20, "5xx": 5},
        latency={30: 20}, ready=2, starting=1, busy_s=6.0, starts=starts,
    )  # fmt: skip
    past.sample(sample, Objective())
    assert list(past.counts(NOW, NOW + 10)) == [2, 3, 2, 3, 2, 3, 2, 3, 2, 3]
    sums = past.sums(NOW, NOW + 10)
    assert (sums.answered, sums.missed, sums.busy_s, sums.ready_s, sums.paid_s) == (25, 5, 6, 20, 30)
    assert list(past.starts_s) == [4.0]


def test_batches_of_a_sample_over_two_steps_are_shared_and_counted_whole() -> None:
    past = Past()
    past.second(NOW + 11, 9, span_s=3.0, batches=Batches(count=4, rows=9, seconds=0.8))
    first, both = past.sums(NOW, NOW + 10).batches, past.sums(NOW, NOW + 20).batches
    assert (first.count, both.count, both.rows) == (3, 4, 9)


def test_older_minutes_fill_unknown_ones_only() -> None:
    past = filled([1] * 120)
    first = round(NOW) // 60
    past.minutes([(NOW - 60, 30), (NOW - 60, 12), (NOW + 60, 999), (NOW - 60 * WEEK_MINUTES, 5)])
    assert [past.minute(first + i) for i in (-3, -2, 0, 1)] == [None, 42, 60, 60]
    assert past.minute(first + 2) is None
    assert past.minute(first - WEEK_MINUTES) is None


def test_minutes_may_come_before_any_second() -> None:
    past = Past()
    past.minutes([(NOW, 30)])
    assert past.minute(round(NOW) // 60 - 1) == 30


def test_a_copy_stays_as_it_is() -> None:
    past = filled([1, 2, 3])
    past.snapshot(NOW, 2, "state")
    before = past.copied()
    past.second(NOW + 4, 4)
    past.snapshot(NOW + 300, 3, "later")
    assert (len(before.snapshots), list(before.counts(NOW, NOW + 5))) == (1, [1, 2, 3, 0, 0])
    assert list(past.counts(NOW, NOW + 5)) == [1, 2, 3, 4, 0]


def test_an_episode_begins_at_the_last_snapshot_before_it() -> None:
    past = filled([1] * 700)
    assert past.snapshot_at(NOW) is None
    for at_s in (NOW, NOW + 300, NOW + 600):
        past.snapshot(at_s, 3, at_s)
    found = past.snapshot_at(NOW + 400)
    assert found is not None
    assert (found.state, past.snapshot_at(NOW - 50)) == (NOW + 300, past.snapshots[0])
    stretch = past.stretch(found, NOW + 420)
    assert (stretch.begin_s, stretch.until_s, stretch.ready, len(stretch.counts)) == (NOW + 300, NOW + 420, 3, 120)


def test_snapshots_older_than_what_is_kept_are_gone_and_old_ones_are_fewer() -> None:
    past = Past()
    for i in range(100):
        past.snapshot(NOW + 300 * i, 1, None)
    ages = [NOW + 300 * 99 - s.at_s for s in past.snapshots]
    assert max(ages) <= KEPT_S
    assert [age for age in ages if age <= 2700] == [2700 - 300.0 * i for i in range(10)]
    assert sum(age > 2700 for age in ages) in (5, 6)


def test_two_hours_of_a_busy_deployment_are_about_a_megabyte() -> None:
    law, bounds, dice = Scale(max_batch=8), Bounds(1, 200), random.Random(1)
    tracemalloc.start()
    past, state = Past(), law.begin()
    for second in range(0, KEPT_S, 10):
        calls = dice.randint(200, 800)
        batches = Batches(
            count=calls // 8, rows=calls, seconds=calls * 0.03, rows_squared=8 * calls, rows_seconds=0.24 * calls
        )
        seen = Observation(at_s=NOW + second, span_s=10, arrivals=calls, answered=calls, missed=0, batches=batches)
        state, _ = law.step(state, bounds, seen)
        past.second(NOW + second, calls, span_s=10.0, batches=batches, answered=calls, latency={30: calls}, ready=9)
        if second % 300 == 0:
            past.snapshot(NOW + second, 9, state)
    contest.needs.cache_clear()  # all deployments share what it remembers
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1.2e6
