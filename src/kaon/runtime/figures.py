"""Counters of an endpoint: plain numbers, cheap to add to, read when metrics are requested."""

from __future__ import annotations

from bisect import bisect_left

from kaon.types.traffic import LATENCY_BOUNDS_S

REQUEST_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_FINE_S = tuple(sorted({*REQUEST_BOUNDS_S, *LATENCY_BOUNDS_S}))
"""The union of both bounds: an answer is counted once for both histograms."""
BATCH_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BOUNDS_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Counts by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def by(self, bounds: tuple[float, ...]) -> Histogram:
        """The same with other bounds, all of which are among its own."""
        coarse = Histogram(bounds)
        coarse.total = self.total
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            coarse.counts[bisect_left(bounds, bound)] += count
        return coarse


class EndpointFigures:
    """The figures of one endpoint."""

    __slots__ = (
        "_seconds",
        "batch_rows",
        "batch_seconds",
        "batch_work_s",
        "codes",
        "queue_seconds",
        "rows_squared",
        "rows_work_s",
        "squared_work",
        "stream_items",
    )

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self._seconds = Histogram(_FINE_S)
        self.queue_seconds = Histogram(REQUEST_BOUNDS_S)
        """Waiting times of calls that waited."""
        self.batch_rows = Histogram(BATCH_BOUNDS_ROWS)
        self.batch_seconds = Histogram(BATCH_BOUNDS_S)
        self.rows_squared = 0.0
        self.batch_work_s = 0.0
        """Sum of batch seconds / slots."""
        self.rows_work_s = 0.0
        self.squared_work = 0.0
        """Sum of the squares of batches' work, for its variance."""
        self.stream_items = 0

    @property
    def seconds(self) -> Histogram:
        """Request durations in the buckets of the Prometheus metric."""
        return self._seconds.by(REQUEST_BOUNDS_S)

    @property
    def latency(self) -> Histogram:
        """Request durations in the buckets of a `Sample`."""
        return self._seconds.by(LATENCY_BOUNDS_S)

    def answered(self, code: int, seconds: float) -> None:
        """Count an answer with HTTP status `code` that took `seconds`."""
        self.codes[code] = self.codes.get(code, 0) + 1
        histogram = self._seconds  # `add`, inlined: this runs for every request
        histogram.counts[bisect_left(_FINE_S, seconds)] += 1
        histogram.total += seconds

    def plus(self, more: EndpointFigures) -> EndpointFigures:
        """The answers of both, by code and by time."""
        both = EndpointFigures()
        for figures in (self, more):
            for code, count in figures.codes.items():
                both.codes[code] = both.codes.get(code, 0) + count
            both._seconds.counts = [a + b for a, b in zip(both._seconds.counts, figures._seconds.counts, strict=True)]
            both._seconds.total += figures._seconds.total
        return both

    def batched(self, rows: int, seconds: float, slots: int) -> None:
        """Count a batch of `rows` rows that took `seconds` in one of `slots` slots."""
        self.batch_rows.add(rows)
        self.batch_seconds.add(seconds)
        self.rows_squared += rows * rows
        self.batch_work_s += seconds / slots
        self.rows_work_s += rows * seconds / slots
        self.squared_work += (seconds / slots) ** 2
