"""Arrivals: from counts per step of time to sorted nanoseconds, a function of (seed, step).

Within a step of a second or less calls come evenly at random. Over longer steps the rate goes in a
straight line from one step's middle to the next, a second at a time, and counts are Poisson.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NS = 1_000_000_000


def arrivals(rates: Sequence[float], seed: int) -> Any:
    """Sorted arrival times, ns, of Poisson traffic with `rates[i]` calls per second in second i."""
    import numpy as np

    random = np.random.Generator(np.random.Philox(key=seed))
    counts = random.poisson(np.asarray(rates, dtype=float))
    times = random.random(int(counts.sum())) + np.repeat(np.arange(len(counts)), counts)
    out = (np.sort(times) * NS).astype(np.int64)
    return out


def per_second(values: Sequence[float], step_s: float) -> list[float]:
    """Rates of steps of `step_s` (>= 1 s), as rates of seconds, in straight lines between the steps' middles."""
    import numpy as np

    middles = (np.arange(len(values)) + 0.5) * step_s
    seconds = np.arange(int(len(values) * step_s)) + 0.5
    return [float(x) for x in np.interp(seconds, middles, np.asarray(values, dtype=float))]
