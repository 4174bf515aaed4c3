"""The time of a batch of n rows, s(n) = a n + b, fitted by least squares to sums over batches.

Sums can be added up: a replica sums its batches, the agent its replicas, and least squares needs no more. The batcher
in a replica, the scaling law, the advice and the tuner's twin all use it.

Old sums fade by `FORGETTING` with every batch, or with every observation of many batches (at one per 2 s, half of the
weight is of the last 70 s), so a slower model or machine is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kaon.types.observation import Batches

FORGETTING = 0.98
_LEAST_SPREAD = 0.05
"""Variance of rows per batch below which a and b cannot be told apart."""
_LEAST_A_S = 1e-12
"""A smaller cost of a row counts as none: no clock measures it, and dividing by it overflows."""


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Sums over batches, faded or not. Seconds and rows."""

    count: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0
    calls: float = 0.0
    """Calls that these rows belong to; 0: not reported, a call counts as one row."""

    @property
    def rows_per_call(self) -> float:
        """The mean rows of a call."""
        return self.rows / self.calls if self.calls else 1.0

    @property
    def learned(self) -> bool:
        """Whether there are any sums."""
        return self.count >= 1

    def line(self) -> tuple[float, float]:
        """(a, b), both at least 0. Where all batches have one size, all of the time is in b."""
        mean_rows, mean_s = self.rows / self.count, self.seconds / self.count
        spread = self.rows_squared / self.count - mean_rows**2
        if spread < _LEAST_SPREAD:
            return 0.0, mean_s
        a = (self.rows_seconds / self.count - mean_rows * mean_s) / spread
        a = min(max(a, 0.0), mean_s / mean_rows)
        return a, max(mean_s - a * mean_rows, 0.0)

    def rows_within(self, budget_s: float) -> int | None:
        """The most rows that fit into `budget_s`; None when rows cost nothing, or their cost is unknown.

        Where batches of one size take longer, half as many rows are tried, which shows the slope.
        """
        if not self.learned:
            return None
        a, b = self.line()
        if a > _LEAST_A_S:
            return int((budget_s - b) / a)
        mean_rows = self.rows / self.count
        one_size = self.rows_squared / self.count - mean_rows**2 < _LEAST_SPREAD
        return int(mean_rows / 2) if one_size and b > budget_s else None

    def best(self, largest: int, within_s: float) -> tuple[int, float]:
        """(rows, seconds) of the batch with the highest throughput for which a row that waits for one batch and is
        in the next one is answered `within_s`; one row when even that is too slow."""
        a, b = self.line()
        fitting = largest if a <= 0 else int((within_s / 2 - b) / a + 1e-9)
        if a <= 0 and 2 * b > within_s:
            fitting = 1
        rows = min(max(fitting, 1), largest)
        return rows, max(a * rows + b, 1e-6)


def fit(batches: Iterable[Batches]) -> tuple[float, float] | None:
    """(a, b) of all `batches`, without fading; None without any."""
    sums = ServiceTime()
    for more in batches:
        sums = ServiceTime(
            sums.count + more.count,
            sums.rows + more.rows,
            sums.seconds + more.seconds,
            sums.rows_squared + more.rows_squared,
            sums.rows_seconds + more.rows_seconds,
        )
    return sums.line() if sums.learned else None


def learn(service: ServiceTime, batches: Batches, began: int | None = None) -> ServiceTime:
    """The sums after `batches` with `began` calls; nothing fades without new batches.

    Where `began` is not reported, the rows per call are assumed to be unchanged.
    """
    if batches.count == 0:
        return replace(service, calls=service.calls + began) if began else service
    calls = began if began is not None else batches.rows / service.rows_per_call if service.calls else 0.0
    return ServiceTime(
        service.count * FORGETTING + batches.count,
        service.rows * FORGETTING + batches.rows,
        service.seconds * FORGETTING + batches.seconds,
        service.rows_squared * FORGETTING + batches.rows_squared,
        service.rows_seconds * FORGETTING + batches.rows_seconds,
        service.calls * FORGETTING + calls,
    )


def learn_batch(service: ServiceTime, rows: int, seconds: float) -> ServiceTime:
    """The sums after one batch of `rows` rows that took `seconds`."""
    return ServiceTime(
        service.count * FORGETTING + 1,
        service.rows * FORGETTING + rows,
        service.seconds * FORGETTING + seconds,
        service.rows_squared * FORGETTING + rows * rows,
        service.rows_seconds * FORGETTING + rows * seconds,
    )
