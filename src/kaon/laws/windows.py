"""What a law remembers: recent samples, and extremes over long spans at little cost."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class Samples(NamedTuple):
    """Every sample of the last `span_s` seconds, oldest first: when, and its value."""

    span_s: float
    times: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def add(self, at_s: float, value: float) -> Samples:
        """With one more sample, which is the newest; what is older than the span is gone."""
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

        Samples do not come to the millisecond, so one at the window's edge is in it or not by chance: what is in is
        divided by the time that it covers. That is `last_s` when nothing older is known, and twice that at most.
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


class Extreme(NamedTuple):
    """The largest value of about the last `span_s` seconds, in a few parts, however long the span is.

    A part covers an eighth of the span, so that a peak is held for between 1 and 1 + 1/8 spans. For the
    smallest value, add its negative.
    """

    span_s: float
    parts: tuple[tuple[int, float], ...] = ()

    def add(self, at_s: float, value: float) -> Extreme:
        """With one more sample."""
        parts, part = self.parts, int(at_s * 8 / self.span_s)
        if parts and parts[-1][0] == part and parts[-1][1] >= value:
            return self
        # A part that is no larger than this newer one can never be the extreme again: values fall from first to last.
        first, end = 0, len(parts)
        while end and parts[end - 1][1] <= value:
            end -= 1
        while first < end and parts[first][0] < part - 8:
            first += 1
        return Extreme(self.span_s, (*parts[first:end], (part, value)))

    def value(self) -> float:
        """The extreme; 0 before any sample."""
        return self.parts[0][1] if self.parts else 0.0
