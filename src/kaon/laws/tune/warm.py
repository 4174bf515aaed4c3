"""Where to begin: what the learnt cost of a batch says by itself, before anything was tried."""

from __future__ import annotations

LEAST_BATCHES = 200
"""Before so many batches were seen a and b mean little."""


def best_batch(a: float, b: float, latency_s: float, wait_s: float, largest: int) -> int:
    """The largest batch whose rows, after waiting for the one before, are answered within `latency_s`."""
    if wait_s + 2 * (a + b) > latency_s:
        return 1
    if a <= 0:
        return largest
    return min(max(int(((latency_s - wait_s) / 2 - b) / a + 1e-9), 1), largest)


def best_wait_s(batch: int, rate_rps: float, latency_s: float) -> float:
    """How long to hold a batch for company: what it takes to fill, at most a tenth of the target."""
    return 0.1 * latency_s if rate_rps <= 0 else min(0.1 * latency_s, (batch - 1) / rate_rps)
