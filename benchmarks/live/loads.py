"""Traces, compressed: a part within one run, with bursts and shape as they were, the rate fitted to the fleet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoscale import loads
from kaon.sim.traffic import arrivals

MEAN_RPS = 65.0
"""Some four replicas' worth of calls at full batches."""
BUSY_RPS = 200.0
"""At most so many in the second that only one call in a hundred finds busier: twelve replicas' worth."""
CHOSEN = ("autothrottle_diurnal", "autothrottle_bursty", "servegen_language_m-mid")
"""A trace with a day in it, one in bursts, and one of calls to a language model, when the folder has them."""
CHOSEN_GENERATED = ("day", "noisy", "bursts")
QUICKER = 10
"""Seconds of a trace in one of a run: in three minutes half an hour, which is a day of a trace that has days."""
SEED = 11


@dataclass(frozen=True)
class Load:
    """One run's calls."""

    name: str
    seconds: int
    times: float
    """Seconds of the trace in one of the run."""
    rates: tuple[float, ...]
    """Calls per second, expected, in each second of the trace."""

    def arrivals_ns(self, seed: int = SEED) -> Any:
        """When calls come, ns from the start, sorted: Poisson within each second of the trace."""
        return (arrivals([rate / self.times for rate in self.rates], seed) / self.times).astype(np.int64)


def compressed(load: loads.Load, seconds: int) -> Load:
    """All of `load` in `seconds`."""
    times = load.span_s / seconds
    places = np.minimum((np.arange(load.span_s) / times).astype(int), seconds - 1)
    busy = np.sort(np.bincount(places, weights=load.rates, minlength=seconds) / np.bincount(places))
    shares = np.cumsum(busy) / busy.sum()
    scale = min(MEAN_RPS / busy.mean(), BUSY_RPS / busy[np.searchsorted(shares, 0.99)])
    return Load(load.name, seconds, times, tuple(float(rate * scale) for rate in load.rates))


def chosen(folder: str | None, seconds: int, most: int = 3) -> list[Load]:
    """The loads of a benchmark: of a folder of traces, or made here."""
    real = loads.read(Path(folder)) if folder else loads.generated(1800)
    names = CHOSEN if folder else CHOSEN_GENERATED
    first = [load for name in names for load in real if load.name == name]
    rest = [load for load in real if load not in first]
    return [compressed(replace(load, rates=load.rates[: QUICKER * seconds]), seconds) for load in (first + rest)[:most]]
