"""Loads of hours of a tuner's life: traces, again and again until the time is full, the rate fitted to the machine."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from benchmarks.autoscale import loads
from benchmarks.live.loads import CHOSEN, CHOSEN_GENERATED, Load, compressed

MOST_DAYS = 4
"""Of a trace of days, each half an hour long."""


def chosen(folder: str | None, seconds: int, times: float, most: int) -> list[Load]:
    """The loads of a benchmark of `seconds`, each second `times` of a trace's: of a folder of traces, or made here."""
    real = loads.read(Path(folder), MOST_DAYS) if folder else loads.generated(3600)
    names = CHOSEN if folder else CHOSEN_GENERATED
    first = [load for name in names for load in real if load.name == name]
    rest = [load for load in real if load not in first]
    return [compressed(filled(load, round(seconds * times)), seconds) for load in (first + rest)[:most]]


def filled(load: loads.Load, span_s: int) -> loads.Load:
    """So many seconds of a load: it begins again when it is over."""
    return replace(load, rates=tuple(itertools.islice(itertools.cycle(load.rates), span_s)))


def times_as_many(load: Load, share: float) -> Load:
    """`share` times the calls."""
    return replace(load, rates=tuple(rate * share for rate in load.rates))
