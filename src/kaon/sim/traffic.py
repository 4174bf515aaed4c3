"""Poisson arrivals by the million, with numpy, a function of rates or counts and a seed."""

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


def moments(counts: Sequence[int], first_second: int, seed: int) -> Any:
    """Arrival times of `counts[i]` calls in each second from `first_second` on: sorted, ns from its begin.

    Each is uniform in its second, as in a Poisson process with given counts, and depends only on seed, second and its
    number in that (`kaon.laws.tune.randomness.uniform`).
    """
    import numpy as np

    given = np.asarray(counts, dtype=np.int64)
    parts = [
        begin * NS + _moments(np, given[begin : begin + _AT_ONCE_S], first_second + begin, seed)
        for begin in range(0, len(given), _AT_ONCE_S)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _moments(np: Any, counts: Any, first_second: int, seed: int) -> Any:
    """The same for a few seconds, since the intermediate arrays need several times the memory of the result."""
    second = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
    golden = np.uint64(_GOLDEN)
    stream = np.uint64(seed * _GOLDEN & _MASK) + (second + first_second).astype(np.uint64)
    x = _mixed(np, _mixed(np, stream) + number.astype(np.uint64) * golden)
    within = ((x >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)
    return np.sort(second * NS + (within * NS).astype(np.int64))


def resampled(calls_ns: Any, span_s: float, seed: int) -> Any:
    """A bootstrap sample of these calls: sorted, ns from the same begin.

    Every block of 20 s is replaced by one from at most a minute before or after it, which keeps slow changes and
    resamples what varies within a minute: the local block bootstrap (Paparoditis and Politis, "Local block bootstrap",
    Comptes Rendus Mathematique 335, 2002).
    """
    import numpy as np

    given, begins = np.asarray(calls_ns, dtype=np.int64), np.arange(0.0, span_s, _BLOCK_S)
    random = np.random.Generator(np.random.Philox(key=seed))
    sources = np.clip(begins + random.uniform(-_REACH_S, _REACH_S, len(begins)), 0.0, max(span_s - _BLOCK_S, 0.0))
    edges = np.searchsorted(given, (np.stack((sources, sources + _BLOCK_S)) * NS).astype(np.int64))
    shifts = ((begins - sources) * NS).astype(np.int64)
    parts = [given[first:last] + shift for first, last, shift in zip(*edges, shifts, strict=True)]
    calls = np.concatenate(parts) if parts else given
    return calls[calls < round(span_s * NS)]


_AT_ONCE_S = 60
_BLOCK_S, _REACH_S = 20.0, 60.0
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _mixed(np: Any, x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
