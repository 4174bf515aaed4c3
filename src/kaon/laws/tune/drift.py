"""Detects lasting changes of a figure: Page's test (1954) in Hinkley's form, two-sided.

Sums of the differences of values from their own mean, less a tolerance, grow only when the mean shifts for good. Values
are scaled by their own mean deviation, so that one threshold suits all figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TOLERANCE = 0.5
THRESHOLD = 8.0
_LEARNING = 10
"""Number of first values, which only set mean and deviation."""
_MOST = 3.0
"""Largest score of one value: one alone is no drift."""


@dataclass(frozen=True, slots=True)
class DriftWatch:
    """One figure under watch."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0
    up: float = 0.0
    down: float = 0.0

    @property
    def drifted(self) -> bool:
        """Whether the figure has drifted."""
        return max(self.up, self.down) > THRESHOLD

    def after(self, value: float) -> DriftWatch:
        """The watch with one more value; after a drift it starts again."""
        if self.drifted:
            return DriftWatch(1, value)
        count = self.count + 1
        off = value - self.mean
        rate = 1 / min(count, 50)
        mean, deviation = self.mean + rate * off, self.deviation + rate * (abs(off) - self.deviation)
        learnt = replace(self, count=count, mean=mean, deviation=deviation)
        if count <= _LEARNING:
            return learnt
        score = min(max(off / max(self.deviation, 1e-3 * abs(self.mean), 1e-12), -_MOST), _MOST)
        up, down = max(0.0, self.up + score - TOLERANCE), max(0.0, self.down - score - TOLERANCE)
        return replace(learnt, up=up, down=down)
