"""How long the last replica stays: never far from what a clairvoyant pays, and the best of the observed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.keep_alive import ENOUGH, LEAST_S, MOST_S, Gaps, bound_s, gaps_between, keep_s, learn, start_cost_s
from kaon.types.objective import Objective, Weights

costs = st.floats(LEAST_S, MOST_S)
gap_lengths = st.floats(0.1, 3 * MOST_S)


def paid_s(gap_s: float, kept_s: float, cost_s: float) -> float:
    return gap_s if gap_s <= kept_s else kept_s + cost_s


@given(costs, gap_lengths)
def test_before_gaps_are_known_a_gap_costs_at_most_twice_what_a_clairvoyant_pays(cost_s: float, gap_s: float) -> None:
    assert paid_s(gap_s, keep_s(Gaps(), cost_s), cost_s) <= 2 * min(gap_s, cost_s) + 1e-6


@given(costs, st.lists(gap_lengths, max_size=ENOUGH - 1))
def test_too_few_gaps_change_nothing(cost_s: float, seen: list[float]) -> None:
    gaps = Gaps()
    for gap_s in seen:
        gaps = learn(gaps, gap_s)
    assert keep_s(gaps, cost_s) == keep_s(Gaps(), cost_s)


@given(costs, st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_with_enough_gaps_no_other_time_would_have_cost_less(cost_s: float, steps: list[int]) -> None:
    gaps, lengths = Gaps(), []
    for number in range(2 * ENOUGH):
        gap_s = LEAST_S * 1.01 * 2 ** (steps[number % len(steps)] / 4)
        gaps, lengths = learn(gaps, gap_s), [*lengths, gap_s]
    weights = [0.99 ** (len(lengths) - 1 - age) for age in range(len(lengths))]

    def cost(time_s: float) -> float:
        return sum(w * paid_s(g, time_s, cost_s) for w, g in zip(weights, lengths, strict=True))

    kept = keep_s(gaps, cost_s)
    best = min(cost(time_s) for time_s in [LEAST_S, *(bound_s(b) for b in range(len(gaps.counts) - 1))])
    assert cost(kept) <= best * (1 + 1e-6)


@given(st.lists(st.one_of(st.just(90.0), st.just(9000.0)), min_size=ENOUGH, max_size=200))
def test_it_stays_within_its_bounds(seen: list[float]) -> None:
    gaps = Gaps()
    for gap_s in seen:
        gaps = learn(gaps, gap_s)
    for cost_s in (0.0, 1.0, 1e3, 1e9, float("inf")):
        assert LEAST_S <= keep_s(gaps, cost_s) <= 1.01 * MOST_S


def test_calls_every_five_minutes_keep_a_slow_starter_and_let_a_quick_one_go() -> None:
    gaps = Gaps()
    for _ in range(ENOUGH):
        gaps = learn(gaps, 300.0)
    assert keep_s(gaps, start_cost_s(20.0, Objective())) >= 300
    assert keep_s(gaps, start_cost_s(0.3, Objective())) == LEAST_S


def test_gaps_that_end_no_replica_teach_nothing() -> None:
    assert learn(Gaps(), LEAST_S) == Gaps()


def test_a_start_costs_its_time_and_the_waiting_of_whoever_is_held() -> None:
    assert start_cost_s(5.0, Objective()) == 5 * 61
    assert start_cost_s(5.0, Objective(weights=Weights(latency=0))) == 5
    assert start_cost_s(5.0, Objective(weights=Weights(cost=0))) == float("inf")


def test_gaps_are_recalled_from_the_minutes_in_which_somebody_called() -> None:
    minutes = [(60.0 * minute, 60.0 * (minute + 1)) for minute in (0, 1, 2, 8, 9, 40)]
    assert gaps_between(minutes) == learn(learn(Gaps(), 300.0), 1800.0)
    assert gaps_between([]) == Gaps()
