"""Which parts of the past are played: the last half hour, the same time a day ago, and the worst burst of the week."""

from __future__ import annotations

import pytest

from kaon.laws.tune import replay_set as module
from kaon.laws.tune.past import Past
from kaon.laws.tune.replay_set import LED_IN_MINUTES, burst_at, replay_set

DAY_S = 86_400
NOW = 1_700_000_040 // 60 * 60
"""A whole minute."""


def lived(minutes: int, calls: int = 60, until_s: int = NOW) -> Past:
    """Seconds of an even load, with snapshots."""
    past = Past()
    for second in range(until_s - 60 * minutes, until_s):
        if second % 300 == 0:
            past.snapshot(float(second), 3, "memory")
        past.second(second + 1.0, calls // 60, ready=3)
    return past


def test_nothing_is_played_before_the_first_snapshot() -> None:
    assert replay_set(Past(), NOW) is None


def test_of_an_even_load_that_is_all_there_is_the_last_half_hour_is_played() -> None:
    found = replay_set(lived(60), NOW)
    assert found is not None
    (recent,) = found.whole
    assert 1800 <= recent.until_s - recent.begin_s <= 2100
    assert (recent.until_s, recent.state, recent.led_in_s, recent.burst) == (NOW, "memory", 0.0, False)
    assert sum(recent.counts) == len(recent.counts)
    assert all(s.until_s - s.begin_s <= 600 for s in found.short)


def test_of_very_many_calls_the_last_twenty_minutes_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY_CALLS", 1000)
    found = replay_set(lived(60), NOW)
    assert found is not None
    assert 1200 <= found.whole[0].until_s - found.whole[0].begin_s <= 1500


def test_the_same_time_a_day_ago_is_led_in_and_led_from_that_time_on() -> None:
    past = lived(60)
    past.minutes((NOW - DAY_S + 60.0 * i, 90) for i in range(-20, 30))
    found = replay_set(past, NOW)
    assert found is not None
    slot = found.whole[1]
    assert slot.begin_s + slot.led_in_s == NOW - DAY_S
    assert (slot.led_in_s, slot.ready, slot.state, slot.burst) == (60.0 * LED_IN_MINUTES, None, None, False)
    assert sum(slot.counts) == 90 * len(slot.counts) // 60


def test_the_burst_of_the_week_is_the_steepest_minute_not_the_busiest() -> None:
    past = lived(60)
    at_s = NOW - 3 * DAY_S
    past.minutes((at_s + 60.0 * (i + 1), {30: 300}.get(i, 100) if i < 60 else 900) for i in range(90))
    # 900 calls a minute after 100: steeper still
    assert burst_at(past, NOW - 1800) == at_s // 60 + 60
    found = replay_set(past, NOW)
    assert found is not None
    burst = found.whole[-1]
    assert burst.burst
    assert burst.begin_s + burst.led_in_s == at_s + 59 * 60
    assert burst.until_s == at_s + 64 * 60


def test_a_burst_of_the_last_two_hours_begins_with_what_the_law_remembered() -> None:
    past = lived(110)
    past.second(NOW - 80 * 60 + 30.0, 400)
    found = replay_set(past, NOW)
    assert found is not None
    burst = found.whole[-1]
    assert (burst.state, burst.burst) == ("memory", True)
    assert burst.begin_s + burst.led_in_s == NOW - 81 * 60
    assert sum(burst.counts) > 400


@pytest.mark.parametrize("calls", [10, 49])
def test_a_few_calls_are_no_burst_however_steep(calls: int) -> None:
    past = lived(30)
    past.minutes((NOW - DAY_S * 2 + 60.0 * i, calls if i == 20 else 1) for i in range(40))
    assert burst_at(past, NOW) is None
