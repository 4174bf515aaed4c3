"""The last 24 hours of a deployment by the hour: needed replicas, calls, calls that waited."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kaon.laws.advise.minute import AdviceMinute

HOURS = 24
_HOUR_S, _MINUTE_S = 3600.0, 60.0


@dataclass(frozen=True, slots=True)
class Hour:
    """Sums over the minutes of an hour that have figures."""

    number: int
    """Hours since the epoch."""
    minutes: int = 0
    sized: int = 0
    """Minutes whose needed replicas could be computed."""
    needed: int = 0
    """Replicas that its busiest minute needed."""
    counted: int = 0
    """Minutes with a known number of calls."""
    arrivals: int = 0
    waited: int = 0
    starts: int = 0
    start_s: float = 0.0
    empty: int = 0
    """Minutes without a replica."""


Day = tuple[Hour, ...]
"""Oldest first."""


def add(day: Day, minute: AdviceMinute) -> Day:
    """The day with one more minute, without hours older than 24."""
    window = minute.window
    number = int((window.at_s - _MINUTE_S / 2) // _HOUR_S)
    hour = day[-1] if day and day[-1].number == number else Hour(number)
    needed, start_s = minute.needed, window.start_s
    hour = replace(
        hour,
        minutes=hour.minutes + 1,
        sized=hour.sized + (needed is not None),
        needed=max(hour.needed, needed or 0),
        counted=hour.counted + (window.arrivals is not None),
        arrivals=hour.arrivals + (window.arrivals or 0),
        waited=hour.waited + (minute.waited or 0),
        starts=hour.starts + (start_s is not None),
        start_s=hour.start_s + (start_s or 0.0),
        empty=hour.empty + (not window.ready),
    )
    return (*(h for h in day if number - HOURS < h.number < number), hour)


def lately(day: Day) -> tuple[int, int]:
    """The replicas that the busiest minute of this hour and the last one needed, and the number of minutes that it is
    derived from."""
    last = [hour for hour in day if hour.number >= day[-1].number - 1]
    return max((hour.needed for hour in last), default=0), sum(hour.sized for hour in last)


def mean_start_s(day: Day) -> float | None:
    """The mean time of a start; None: there was none."""
    starts = sum(hour.starts for hour in day)
    return sum(hour.start_s for hour in day) / starts if starts else None
