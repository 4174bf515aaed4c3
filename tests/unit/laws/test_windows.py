"""What laws remember."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.windows import Peaks, Samples


def test_samples_older_than_the_span_are_gone() -> None:
    kept = Samples(10.0)
    for i in range(20):
        kept = kept.add(float(i), 1.0)
    assert kept.total() == 10
    assert kept.total(4.0) == 4
    assert kept.mean() == 1.0


@given(st.lists(st.floats(-0.2, 0.2), min_size=30, max_size=30), st.sampled_from([4.0, 12.0]))
def test_a_steady_rate_is_steady_although_samples_come_a_little_early_or_late(
    shifts: list[float], last_s: float
) -> None:
    kept, before_s = Samples(60.0).add(0.0, 20.0), 0.0
    for second, shift in enumerate(shifts, start=1):
        at_s = 2.0 * second + shift
        kept, before_s = kept.add(at_s, 10.0 * (at_s - before_s)), at_s
        if at_s > last_s + 1:
            assert abs(kept.rate(last_s) - 10.0) < 1e-6


def test_a_rate_after_a_gap_is_not_thinned_out_by_it() -> None:
    kept = Samples(60.0).add(0.0, 20.0)
    assert kept.rate(4.0) == 5.0
    assert kept.add(50.0, 20.0).rate(4.0) == 2.5
    assert Samples(60.0).rate(4.0) == 0.0


VALUES = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0, 2.0]))
STEPS = st.lists(st.tuples(st.floats(0.1, 30), VALUES, VALUES), min_size=1, max_size=60)


def _peak(past: list[tuple[float, float]], span_s: float) -> float:
    """The largest value of the newest part and the eight parts before it, by the book."""
    part = int(past[-1][0] * 8 / span_s)
    return max(value for at_s, value in past if int(at_s * 8 / span_s) >= part - 8)


@given(STEPS, st.floats(1, 200), st.floats(1, 200))
def test_a_peak_is_kept_for_its_span_and_at_most_an_eighth_longer(
    steps: list[tuple[float, float, float]], first_s: float, second_s: float
) -> None:
    known, at_s, past = Peaks.of(4, (first_s, second_s)), 0.0, []
    for step_s, low, high in steps:
        at_s += step_s
        past.append((at_s, low, high))
        known = known.add(at_s, [low, low, high, high])
        lows, highs = [(at, value) for at, value, _ in past], [(at, value) for at, _, value in past]
        assert known.values() == [_peak(values, span_s) for values in (lows, highs) for span_s in (first_s, second_s)]
        assert known.values()[0] >= max(value for at, value in lows if at > at_s - first_s)
        assert known.values()[0] <= max(value for at, value in lows if at >= at_s - 1.125 * first_s - 1e-6)


def test_before_any_value_a_peak_is_below_all() -> None:
    assert Peaks.of(2, (10.0,)).values() == [-math.inf, -math.inf]
