"""The start of a search: values derived from the learnt cost of a batch."""

from __future__ import annotations

LEAST_BATCHES = 200
"""Least batches for a and b."""


def best_batch(a: float, b: float, latency_s: float, wait_s: float, largest: int) -> int:
    """The largest batch whose rows, after waiting for the one before, are answered within `latency_s`."""
    if wait_s + 2 * (a + b) > latency_s:
        return 1
    if a <= 0:
        return largest
    return min(max(int(((latency_s - wait_s) / 2 - b) / a + 1e-9), 1), largest)
