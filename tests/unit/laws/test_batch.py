"""The batching law, example by example."""

from __future__ import annotations

import pytest

from kaon.laws.batch import Hold, Release, Waiting, decide, parts
from kaon.laws.service_time import ServiceTime, learn_batch
from kaon.types.service import Batch


def learned(a: float, b: float) -> ServiceTime:
    cost = ServiceTime()
    for rows in (1, 8, 32, 4, 16) * 10:
        cost = learn_batch(cost, rows, a * rows + b)
    return cost


def test_a_lone_request_does_not_wait() -> None:
    assert decide(Batch(max_size=32), ServiceTime(), Waiting(rows=(1,))) == Release(1, 1, "a slot is free")


def test_all_that_arrived_in_this_turn_leaves_together() -> None:
    assert decide(Batch(max_size=32), ServiceTime(), Waiting(rows=(1, 3, 2))) == Release(3, 6, "a slot is free")


def test_nothing_leaves_while_every_slot_works() -> None:
    assert isinstance(decide(Batch(max_size=4), ServiceTime(), Waiting(rows=(1,) * 9, running=1)), Hold)


def test_a_second_slot_takes_what_the_first_left() -> None:
    assert isinstance(decide(Batch(max_size=4), ServiceTime(), Waiting(rows=(1,), running=1, slots=2)), Release)


def test_rows_are_counted_not_calls() -> None:
    decision = decide(Batch(max_size=8), ServiceTime(), Waiting(rows=(5, 3, 1)))
    assert decision == Release(2, 8, "full")


def test_a_call_that_does_not_fit_any_more_waits_for_the_next_batch() -> None:
    assert decide(Batch(max_size=8), ServiceTime(), Waiting(rows=(5, 4))) == Release(1, 5, "full")


def test_an_idle_slot_is_held_for_more_calls_only_with_a_max_wait() -> None:
    spec = Batch(max_size=8, max_wait_s=0.02)
    hold = decide(spec, ServiceTime(), Waiting(rows=(1,), oldest_wait_s=0.005))
    assert isinstance(hold, Hold)
    assert hold.again_s == pytest.approx(0.015)
    assert isinstance(decide(spec, ServiceTime(), Waiting(rows=(1,), oldest_wait_s=0.02)), Release)
    assert isinstance(decide(spec, ServiceTime(), Waiting(rows=(8,))), Release)


def test_a_latency_target_bounds_the_batch_by_the_learned_cost() -> None:
    cost = learned(a=0.001, b=0.004)
    fresh = decide(Batch(max_size=64, latency_s=0.024), cost, Waiting(rows=(1,) * 64))
    assert isinstance(fresh, Release)
    assert fresh.rows in (19, 20)  # 0.024 = 0.001 x 20 + 0.004
    late = decide(Batch(max_size=64, latency_s=0.024), cost, Waiting(rows=(1,) * 64, oldest_wait_s=1.0))
    assert isinstance(late, Release)
    assert late.rows in (7, 8)  # half the target, however late: 0.012 = 0.001 x 8 + 0.004


def test_a_target_that_even_one_row_misses_still_serves_one_by_one() -> None:
    decision = decide(Batch(max_size=64, latency_s=0.001), learned(0.001, 0.004), Waiting(rows=(1, 1)))
    assert decision == Release(1, 1, "full")


def test_the_cost_is_learned_and_followed_when_it_changes() -> None:
    cost = learned(a=0.0005, b=0.004)
    assert cost.line() == pytest.approx((0.0005, 0.004), rel=1e-3)
    for rows in (1, 16, 32, 8) * 100:
        cost = learn_batch(cost, rows, 0.002 * rows + 0.001)
    a, b = cost.line()
    assert 32 * a + b == pytest.approx(0.065, rel=0.02)


def test_batches_of_one_size_for_ever_do_not_upset_what_was_learned() -> None:
    cost = ServiceTime()
    for _ in range(10_000):
        cost = learn_batch(cost, 32, 0.020)
    assert cost.line() == pytest.approx((0, 0.020), rel=1e-3)


def test_batches_of_one_size_that_are_too_slow_become_smaller_until_the_target_is_kept() -> None:
    spec, cost, sizes = Batch(max_size=32, latency_s=0.020), ServiceTime(), []
    for _ in range(20):
        released = decide(spec, cost, Waiting(rows=(1,) * 40))
        assert isinstance(released, Release)
        sizes.append(released.rows)
        cost = learn_batch(cost, released.rows, 0.001 * released.rows + 0.004)
    assert sizes[:2] == [32, 16]
    assert all(size in (15, 16) for size in sizes[2:])  # 0.020 = 0.001 x 16 + 0.004


def test_where_more_rows_cost_no_more_batches_stay_large_however_slow() -> None:
    spec, cost = Batch(max_size=32, latency_s=0.020), learned(a=0.0, b=0.050)
    assert decide(spec, cost, Waiting(rows=(1,) * 40)) == Release(32, 32, "full")


def test_a_call_larger_than_a_batch_is_cut_into_batches() -> None:
    assert parts(70, 32) == ((0, 32), (32, 64), (64, 70))
    assert parts(32, 32) == ((0, 32),)
