"""Poisson arrivals by the million, with numpy, a function of the rates and the seed: for benchmarks."""

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
