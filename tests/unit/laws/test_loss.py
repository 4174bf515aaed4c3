"""The loss and its parts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kaon.laws.loss import LEAST_PRICE, LossInputs, Price, joined, latency_loss, loss, merged
from kaon.types.objective import Objective

OBJECTIVE = Objective(latency_s=0.2, completion=0.99)


def window(arrivals: int = 1000, well: int = 1000, busy_s: float = 70.0, latency: float = 0.0) -> LossInputs:
    return LossInputs(arrivals, well, latency, busy_s, 100.0, 100.0)


def test_a_window_on_target_costs_only_its_cost() -> None:
    assert loss(OBJECTIVE, window(), 0.1).total == pytest.approx(1.0)


def test_being_faster_than_the_target_gains_nothing() -> None:
    assert latency_loss(0.1) == pytest.approx(0.0, abs=1e-6)
    assert latency_loss(0.5) == pytest.approx(latency_loss(0.1), abs=1e-4)


def test_lateness_is_linear_and_clipped() -> None:
    assert latency_loss(2.0) == pytest.approx(1.0)
    assert latency_loss(100.0) == 3.0


def test_dropping_calls_never_pays() -> None:
    kept = loss(OBJECTIVE, window(latency=300.0), 0.1)
    dropped = loss(OBJECTIVE, window(well=900), 0.1)
    assert dropped.total > kept.total
    assert dropped.completion == pytest.approx(9.0)


def test_completion_is_not_clipped() -> None:
    assert loss(OBJECTIVE, window(well=0), 0.1).completion == pytest.approx(99.0)


def test_utilisation_is_a_band() -> None:
    idle, right, full = (loss(OBJECTIVE, window(busy_s=b), 0.1).utilisation for b in (20.0, 70.0, 95.0))
    assert right == 0
    assert idle == pytest.approx((0.55 - 0.2) / 0.55)
    assert full > idle


def test_nothing_to_serve_is_not_idleness() -> None:
    assert loss(OBJECTIVE, LossInputs(0, 0, 0.0, 0.0, 60.0, 60.0), 0.1).total == 0


def test_the_price_of_a_miss_rises_while_the_budget_burns_and_falls_again() -> None:
    long_s = 1e6  # what was before a window so long does not count
    assert Price(LEAST_PRICE).after(OBJECTIVE, 1 - 5 * (1 - OBJECTIVE.completion), long_s).value == pytest.approx(3.0)
    assert Price(3.0).after(OBJECTIVE, 1.0, long_s) == Price(2.5, 0.0)
    assert Price(LEAST_PRICE).after(OBJECTIVE, 1.0, long_s) == Price(LEAST_PRICE, 0.0)
    assert Price(49.0).after(OBJECTIVE, 0.0, long_s).value == 50.0
    price = Price()
    for _ in range(5):
        price = price.after(OBJECTIVE, 0.5, 60.0)
    assert price.value > 5
    for _ in range(400):
        price = price.after(OBJECTIVE, 1.0, 60.0)
    assert price.value == LEAST_PRICE


def test_windows_of_few_calls_join_their_neighbours() -> None:
    few = [window(20, 20) for _ in range(5)]
    joined = merged(few)
    assert [w.arrivals for w in joined] == [100]
    assert merged([window(100, 100), window(10, 10)])[0].arrivals == 110


def test_joined_windows_have_the_number_of_their_parts() -> None:
    told = [window(n, n) for n in (100, 0, 3, 60, 80, 0)]
    assert [(w.arrivals, count) for w, count in joined(told)] == [(100, 1), (63, 3), (80, 2)]
    assert joined([]) == []


def test_an_objective_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="utilisation"):
        Objective(utilisation=(0.9, 0.5))
    with pytest.raises(ValidationError, match="deadline_s"):
        Objective(latency_s=1.0, deadline_s=0.5)
    assert Objective(latency_s=0.3).patience_s == 0.6
