"""Recent samples, and extremes over long spans at little cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Samples(NamedTuple):
    """Every sample of the last `span_s` seconds, oldest first: its time and its value."""

    span_s: float
    times: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def add(self, at_s: float, value: float) -> Samples:
        """With a newer sample, and without those older than the span."""
        first = bisect_right(self.times, at_s - self.span_s)
        return Samples(self.span_s, (*self.times[first:], at_s), (*self.values[first:], value))

    def total(self, last_s: float | None = None) -> float:
        """The sum of the samples, or of those of the last `last_s` seconds before the newest."""
        return sum(self.values[self._first(last_s) :])

    def mean(self, last_s: float | None = None) -> float:
        """Their mean; 0 when there are none."""
        values = self.values[self._first(last_s) :]
        return sum(values) / len(values) if values else 0.0

    def rate(self, last_s: float) -> float:
        """Per second over the last `last_s`, where each sample counts what happened since the one before it.

        Whether a sample at the window's edge is inside is chance, since samples are not exact to the millisecond: so
        the sum is divided by the time that it covers. That is `last_s` without older samples, and at most twice that.
        """
        if not self.times:
            return 0.0
        first = self._first(last_s)
        covered_s = min(self.times[-1] - self.times[first - 1], 2 * last_s) if first else last_s
        return sum(self.values[first:]) / covered_s

    def highest(self) -> float:
        """The largest; 0 when there are none."""
        return max(self.values, default=0.0)

    def _first(self, last_s: float | None) -> int:
        """The first of the samples of the last `last_s` seconds."""
        if last_s is None or not self.times:
            return 0
        return bisect_right(self.times, self.times[-1] - last_s)


class Peaks(NamedTuple):
    """The largest values of about the last `spans_s` seconds, in a few parts each.

    A part covers an eighth of the span, so a peak is kept for between 1 and 1 + 1/8 spans. Value i belongs to span
    i modulo the number of spans. All values are added together, which shares most of the work.
    For the smallest values, add their negatives.
    """

    spans_s: tuple[float, ...]
    parts: tuple[int, ...]
    """The number of each span's newest part."""
    newest: tuple[float, ...]
    """The largest value in the newest part."""
    older: tuple[tuple[tuple[int, float], ...], ...]
    """Earlier parts and their largest values; each is larger than all later ones, since others cannot be a peak."""

    @classmethod
    def of(cls, number: int, spans_s: tuple[float, ...]) -> Peaks:
        """`number` peaks without any value yet."""
        return cls(spans_s, (0,) * len(spans_s), (-math.inf,) * number, ((),) * number)

    def add(self, at_s: float, values: Sequence[float]) -> Peaks:
        """With one more value for each."""
        spans = len(self.spans_s)
        parts = [int(at_s * 8 / span_s) for span_s in self.spans_s]
        newest, older = list(self.newest), self.older
        changed: list[tuple[tuple[int, float], ...]] | None = None
        for i, value in enumerate(values):
            before = newest[i]
            if before <= value:
                newest[i] = value
                if not older[i]:
                    continue
                left = older[i]
            elif parts[i % spans] != self.parts[i % spans]:
                newest[i] = value
                left = (*older[i], (self.parts[i % spans], before))
            else:
                continue
            changed = changed or list(older)
            changed[i] = _counting(left, value, parts[i % spans] - 8)
        return Peaks(self.spans_s, tuple(parts), tuple(newest), older if changed is None else tuple(changed))

    def values(self) -> list[float]:
        """The peaks; minus infinity before any value."""
        return [older[0][1] if older else newest for older, newest in zip(self.older, self.newest, strict=True)]


def _counting(parts: tuple[tuple[int, float], ...], value: float, oldest: int) -> tuple[tuple[int, float], ...]:
    """Those of `parts` that are larger than the newer `value` and not before part `oldest`."""
    first, end = 0, len(parts)
    while end and parts[end - 1][1] <= value:
        end -= 1
    while first < end and parts[first][0] < oldest:
        first += 1
    return parts[first:end]
