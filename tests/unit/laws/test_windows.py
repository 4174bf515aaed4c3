"""What laws remember."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.windows import Extreme, Samples


def test_samples_older_than_the_span_are_gone() -> None:
    kept = Samples(10.0)
    for i in range(20):
        kept = kept.add(float(i), 1.0)
    assert kept.total() == 10
    assert kept.total(4.0) == 4
    assert kept.mean() == 1.0


@given(st.lists(st.tuples(st.floats(0.1, 30), st.floats(-100, 100)), min_size=1, max_size=60), st.floats(1, 200))
def test_an_extreme_is_held_for_its_span_and_at_most_a_quarter_longer(
    steps: list[tuple[float, float]], span_s: float
) -> None:
    known, at_s, past = Extreme(span_s), 0.0, []
    for step_s, value in steps:
        at_s += step_s
        past.append((at_s, value))
        known = known.add(at_s, value)
        assert known.value() >= max(v for at, v in past if at > at_s - span_s)
        assert known.value() <= max(v for at, v in past if at >= at_s - 1.25 * span_s - 1e-6)
