"""Waits after failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.backoff import Backoff, delay_s


def test_waits_double_up_to_the_cap() -> None:
    waits = [delay_s(Backoff(first_s=1, cap_s=60), failures) for failures in range(9)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_takes_off_a_share() -> None:
    assert delay_s(Backoff(first_s=1, spread=0.2), 4, jitter=0.5) == pytest.approx(7.2)


@given(
    st.integers(min_value=0, max_value=10**6),
    st.floats(min_value=0, max_value=1, exclude_max=True),
    st.floats(min_value=1, max_value=1e6),
)
def test_a_wait_is_never_above_the_cap_nor_under_a_spread_of_the_first(
    failures: int, jitter: float, factor: float
) -> None:
    wait = delay_s(Backoff(first_s=0.5, cap_s=30, factor=factor, spread=0.2), failures, jitter)
    assert wait <= 30
    assert wait == 0 if failures == 0 else wait >= 0.4
