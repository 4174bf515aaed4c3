"""The usual value of a figure, learnt slowly, and not from unusual minutes."""

from __future__ import annotations

from dataclasses import dataclass

UNUSUAL = 4.0
"""Mean deviations from the usual."""
_LEARNING = 10
_WEIGHT = 0.05
"""Weight of a new minute."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The mean of a figure and its mean deviation, over `count` minutes."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def unusual(self, value: float, least: float) -> bool:
        """Whether `value` is far above the usual one, by at least `least`."""
        return self.count >= _LEARNING and value > self.mean + max(UNUSUAL * self.deviation, least)

    def after(self, value: float) -> Usual:
        """With one more minute."""
        count = self.count + 1
        rate = max(1 / count, _WEIGHT)
        mean = self.mean + rate * (value - self.mean)
        deviation = self.deviation + rate * (abs(value - self.mean) - self.deviation) if self.count else 0.0
        return Usual(count, mean, deviation)
