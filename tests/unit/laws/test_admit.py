"""The admission law, example by example."""

from __future__ import annotations

import math

import pytest

from kaon.laws.admit import (
    Admitted,
    LearnedService,
    Pace,
    QueueLoad,
    QueueRoom,
    RefusalPace,
    Refused,
    decide,
    late,
    learn,
    patience_s,
    retry_after_s,
    standing_s,
    stands,
)
from kaon.types.key import Priority

PLENTY = QueueRoom(0, 0, 1024)


def load(
    ahead: int,
    *,
    busy: int = 2,
    slots: int = 2,
    seconds: float = 0.1,
    samples: int = 50,
    per_round: int = 1,
    standing: bool = False,
) -> QueueLoad:
    return QueueLoad(ahead, ahead, per_round, busy, slots, LearnedService(seconds, 0.0, samples), 0.0, standing)


def test_one_caller_fills_at_most_half_of_the_queue_and_leaves_room_for_the_next() -> None:
    alone = [calls for calls in range(1024) if decide(load(0), QueueRoom(calls, calls, 1024), math.inf) == Admitted()]
    assert len(alone) == 512
    assert decide(load(0), QueueRoom(512, 0, 1024), math.inf) == Admitted()


def test_low_keys_get_less_of_the_queue_and_high_ones_more() -> None:
    def most(priority: Priority) -> int:
        return next(n for n in range(1024) if decide(load(0), QueueRoom(n, n, 1024), math.inf, priority) != Admitted())

    assert most(Priority.LOW) < most(Priority.NORMAL) < most(Priority.HIGH)


def test_a_call_that_could_not_be_answered_in_time_is_refused_at_once() -> None:
    refused = decide(load(49), PLENTY, patience_s=2.0)  # (49 + 1) rounds of 0.1 s on 2 slots, and 0.1 s of its own
    assert isinstance(refused, Refused)
    assert "2.6 s, and has 2 s" in refused.reason
    assert decide(load(49), PLENTY, patience_s=2.7) == Admitted()


def test_while_a_slot_is_free_no_call_is_refused_for_its_time() -> None:
    assert decide(load(0, busy=1, seconds=10.0), PLENTY, patience_s=0.1) == Admitted()


def test_rows_that_ride_in_one_batch_wait_for_one_batch() -> None:
    batched = load(31, busy=1, slots=1, per_round=32)
    assert batched.wait_s == pytest.approx(0.1)
    assert load(32, busy=1, slots=1, per_round=32).wait_s == pytest.approx(0.2)
    assert load(31, busy=0, slots=1, per_round=32).wait_s == 0


def test_no_call_is_refused_on_too_little_evidence() -> None:
    assert decide(load(50, samples=3), PLENTY, patience_s=0.01) == Admitted()
    assert not late(LearnedService(10.0, 0.0, 3), left_s=0.01)


def test_a_burst_may_fill_the_time_that_callers_have_and_a_standing_queue_only_a_few_rounds() -> None:
    assert decide(load(50), PLENTY, patience_s=60) == Admitted()
    assert isinstance(decide(load(50, standing=True), PLENTY, patience_s=60), Refused)
    assert decide(load(5, standing=True), PLENTY, patience_s=60) == Admitted()


def test_how_long_a_standing_queue_may_be_is_in_the_services_own_time() -> None:
    assert standing_s(LearnedService(2.0, 0.0, 50)) == pytest.approx(10.0)
    assert standing_s(LearnedService(0.001, 0.0, 50)) == pytest.approx(0.5)


def test_a_low_priority_is_judged_by_how_its_own_line_moves() -> None:
    pace = Pace(at_s=0.0)
    for second in range(1, 20):
        pace = pace.after(float(second), 1, memory_s=2.0)
    assert pace.seconds == pytest.approx(1.0)
    assert pace.after(60.0, 0, memory_s=2.0).seconds > 100, "it has not moved for long"
    assert pace.again(60.0).seconds == pytest.approx(1.0), "nobody waited"
    slow = QueueLoad(3, 3, 1, 2, 2, LearnedService(0.1, 0.0, 50), pace_s=pace.seconds)
    assert isinstance(decide(slow, PLENTY, patience_s=2.0, priority=Priority.LOW), Refused)


def test_callers_who_hang_up_after_a_while_show_how_long_they_wait_and_others_nothing() -> None:
    assert patience_s(LearnedService(0.05, 0.0, 50), 0.3) == pytest.approx(0.24)
    assert patience_s(LearnedService(0.05, 0.0, 50), 0.2) == math.inf
    assert patience_s(LearnedService(0.0, 0.0, 50), 0.05) == math.inf
    assert patience_s(LearnedService(0.05, 0.0, 3), 9.0) == math.inf


def test_a_queue_stands_when_it_was_not_empty_for_a_quarter_of_the_timeout() -> None:
    assert not stands(9.9, 40.0)
    assert stands(10.1, 40.0)
    assert not stands(14.9, None)
    assert stands(15.1, 3600.0)


def test_what_is_late_by_the_best_time_is_not_begun_and_doubt_counts_for_it() -> None:
    sure, unsure = LearnedService(1.0, 0.0, 50), LearnedService(1.0, 0.7, 50)
    assert late(sure, left_s=0.9)
    assert not late(sure, left_s=1.1)
    assert not late(unsure, left_s=0.4)


def test_a_refused_call_comes_back_when_the_queue_is_served_and_not_with_all_the_others() -> None:
    seen = load(10, seconds=0.2)
    crowd = RefusalPace(count=40.0)
    assert retry_after_s(seen, crowd, 0.0) == pytest.approx(1.1)
    assert retry_after_s(seen, crowd, 1.0) == pytest.approx(5.1)


def test_the_time_to_come_back_is_never_nothing_and_never_for_ever() -> None:
    assert retry_after_s(load(0, seconds=0.0), RefusalPace(), 0.0) == pytest.approx(0.1)
    late_ones = [retry_after_s(load(1000, seconds=100.0), RefusalPace(), chance) for chance in (0.0, 0.5, 1.0)]
    assert late_ones == [pytest.approx(30.0), pytest.approx(45.0), pytest.approx(60.0)]


def test_who_was_turned_away_is_forgotten_within_seconds() -> None:
    turned = RefusalPace()
    for _ in range(100):
        turned = turned.more(10.0)
    assert turned.count == pytest.approx(100)
    assert turned.more(20.0).count == pytest.approx(1, abs=0.01)


def test_the_service_time_follows_the_observed_one() -> None:
    service = LearnedService()
    for _ in range(100):
        service = learn(service, 0.5)
    assert (service.seconds, service.deviation_s) == (pytest.approx(0.5), pytest.approx(0.0))
    assert learn(service, 0.0, rounds=1000).seconds == pytest.approx(0.0, abs=1e-9)
    for number in range(100):
        service = learn(service, 0.5 + 0.25 * (-1) ** number)
    assert service.deviation_s == pytest.approx(0.25, rel=0.1)
