"""The parts of the past on which candidates are compared: the last half hour, the same time a day ago, and the worst
burst.

- *Recent*: the last thirty minutes, from a snapshot on.
- *The same slot earlier*: the traffic a day ago from this time of the day on, where it is known.
- *The burst*: the minutes of the last seven days that were hardest to staff, with those before them. Such a minute is
  not the busiest one: it has many more calls than those before it, so that replicas are not ready yet.

Of traffic older than two hours only the minutes are known, without the state of the law. Such stretches begin with as
many minutes as the law needs to learn, which are not scored.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kaon.laws.tune.past import KEPT_S, MINUTE_S, SNAPSHOT_S, WEEK_MINUTES, Past, Stretch

RECENT_S, SHORT_S = 1800.0, 300.0
MANY_CALLS, LEAST_S = 2_000_000, 1200.0
"""With more calls in the last half hour only its last twenty minutes are used: the least for the gate."""
SLOT_MINUTES, BURST_MINUTES = 10, 5
LED_IN_MINUTES = 10
"""Longer than the law's contest needs before it is followed."""
DAY_MINUTES = 1440
LEAST_RATIO, LEAST_CALLS = 1.5, 50
"""Least times the calls of the minutes before, and least calls, of a burst."""
_BEFORE = 3


@dataclass(frozen=True, slots=True)
class ReplaySet:
    """The stretches of whole plays, the recent one first, and of short ones."""

    whole: tuple[Stretch, ...]
    short: tuple[Stretch, ...]


def replay_set(past: Past, until_s: float) -> ReplaySet | None:
    """The set for a query at `until_s`, a whole minute; None before the first snapshot."""
    many = sum(past.counts(until_s - RECENT_S, until_s)) > MANY_CALLS
    begin = past.snapshot_at(max(until_s - (LEAST_S if many else RECENT_S), 1.0))
    last = past.snapshot_at(until_s - SHORT_S)
    if begin is None or last is None:
        return None
    recent = past.stretch(begin, until_s)
    others = [s for s in (_slot(past, until_s), _burst(past, recent.begin_s)) if s is not None]
    short = [past.stretch(last, until_s), *_costliest(past, until_s)]
    return ReplaySet((recent, *others), tuple(short))


def burst_at(past: Past, before_s: float) -> int | None:
    """The minute since the epoch that was hardest to staff, of those that ended before; None: there is no burst."""
    last = int(before_s // MINUTE_S) - BURST_MINUTES
    best, ratio = None, LEAST_RATIO
    window: list[int] = []
    for number in range(last - WEEK_MINUTES + 1, last):
        calls = past.minute(number)
        if calls is None:
            window = []
            continue
        if len(window) == _BEFORE and calls >= LEAST_CALLS and calls * _BEFORE > ratio * max(sum(window), 1):
            best, ratio = number, calls * _BEFORE / max(sum(window), 1)
        window = [*window[1 - _BEFORE :], calls]
    return best


def _burst(past: Past, before_s: float) -> Stretch | None:
    """The worst burst before the recent part, and the minutes around it."""
    number = burst_at(past, before_s)
    if number is None:
        return None
    from_s = (number - 1) * float(MINUTE_S)
    snapshot = past.snapshot_at(from_s)
    until_s = from_s + BURST_MINUTES * MINUTE_S
    if snapshot is not None and from_s - 3 * SNAPSHOT_S <= snapshot.at_s <= from_s and from_s > past.until_s - KEPT_S:
        stretch = past.stretch(snapshot, until_s, burst=True)
        return replace(stretch, led_in_s=MINUTE_S * ((from_s - stretch.begin_s) // MINUTE_S))
    return _of_minutes(past, number - 1, BURST_MINUTES, burst=True)


def _slot(past: Past, until_s: float) -> Stretch | None:
    return _of_minutes(past, int(until_s // MINUTE_S) - DAY_MINUTES, SLOT_MINUTES)


def _of_minutes(past: Past, first: int, minutes: int, *, burst: bool = False) -> Stretch | None:
    """Minutes from `first` on, with those to learn in; None if one is unknown. Calls are spread evenly over each."""
    minutes_calls = [past.minute(number) for number in range(first - LED_IN_MINUTES, first + minutes)]
    counts = array("I")
    for calls in minutes_calls:
        if calls is None:
            return None
        counts.extend(calls * (i + 1) // MINUTE_S - calls * i // MINUTE_S for i in range(MINUTE_S))
    begin_s = float((first - LED_IN_MINUTES) * MINUTE_S)
    return Stretch(begin_s, counts, None, None, LED_IN_MINUTES * float(MINUTE_S), burst)


def _costliest(past: Past, until_s: float) -> Iterator[Stretch]:
    """The costliest short part of the recent half hour that is not its last."""
    begins = [s for s in past.snapshots if until_s - RECENT_S <= s.at_s <= until_s - 2 * SHORT_S]

    def cost(at_s: float) -> float:
        sums = past.sums(at_s, at_s + SHORT_S)
        return sums.paid_s / max(sums.arrivals, 1) + sums.missed / max(sums.answered, 1)

    worst = max(begins, key=lambda s: cost(s.at_s), default=None)
    if worst is not None:
        yield past.stretch(worst, worst.at_s + SHORT_S)
