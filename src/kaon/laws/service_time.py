"""What a batch of n rows takes, s(n) = a n + b, fitted by least squares to sums over batches; and what follows from it.

Sums travel well: a replica adds its batches up, the agent adds its replicas up, and least squares needs no more. The
batcher in a replica, the scaling law, the advice and the tuner's twin all learn the cost of a batch here.

What is learnt fades by `FORGETTING` with every batch, or with every observation of many batches (at one per 2 s, half
of the weight is of the last 70 s), so a slower model or machine is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kaon.types.observation import Batches

FORGETTING = 0.98
_LEAST_SPREAD = 0.05
"""Variance of rows per batch below which a and b cannot be told apart."""
_LEAST_A_S = 1e-12
"""A row that costs less costs nothing: no clock measures it, and dividing by it overflows."""


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Sums over batches, faded or not. Seconds and rows."""

    count: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0
    calls: float = 0.0
    """Calls that these rows came with; 0: not reported, and a call is taken for one row."""

    @property
    def rows_per_call(self) -> float:
        """Rows that a call carries, in the mean."""
        return self.rows / self.calls if self.calls else 1.0

    @property
    def known(self) -> bool:
        """Whether anything was learnt yet."""
        return self.count >= 1

    def line(self) -> tuple[float, float]:
        """(a, b), both at least 0. Where all batches have one size, all of the time is put down to b."""
        mean_rows, mean_s = self.rows / self.count, self.seconds / self.count
        spread = self.rows_squared / self.count - mean_rows**2
        if spread < _LEAST_SPREAD:
            return 0.0, mean_s
        a = (self.rows_seconds / self.count - mean_rows * mean_s) / spread
        a = min(max(a, 0.0), mean_s / mean_rows)
        return a, max(mean_s - a * mean_rows, 0.0)

    def rows_within(self, budget_s: float) -> int | None:
        """The most rows that fit into `budget_s`; None when more rows cost no more, or that is not known.

        Where batches of one size take longer, the slope is not known: half as many rows are tried, and tell it.
        """
        if not self.known:
            return None
        a, b = self.line()
        if a > _LEAST_A_S:
            return int((budget_s - b) / a)
        mean_rows = self.rows / self.count
        one_size = self.rows_squared / self.count - mean_rows**2 < _LEAST_SPREAD
        return int(mean_rows / 2) if one_size and b > budget_s else None

    def best(self, largest: int, within_s: float) -> tuple[int, float]:
        """(rows, seconds) of the batch that serves most while a row that waits for one batch and rides in
        the next is answered `within_s`; one row when even that is too slow."""
        a, b = self.line()
        fitting = largest if a <= 0 else int((within_s / 2 - b) / a + 1e-9)
        if a <= 0 and 2 * b > within_s:
            fitting = 1
        rows = min(max(fitting, 1), largest)
        return rows, max(a * rows + b, 1e-6)


def fit(batches: Iterable[Batches]) -> tuple[float, float] | None:
    """(a, b) of all of `batches`, none of them faded; None without any."""
    known = ServiceTime()
    for more in batches:
        known = ServiceTime(
            known.count + more.count,
            known.rows + more.rows,
            known.seconds + more.seconds,
            known.rows_squared + more.rows_squared,
            known.rows_seconds + more.rows_seconds,
        )
    return known.line() if known.known else None


def learn(known: ServiceTime, batches: Batches, began: int | None = None) -> ServiceTime:
    """`known` after `batches`, to which `began` calls came; nothing fades while there is nothing new.

    Where `began` is not reported, a call is taken to carry as many rows as before.
    """
    if batches.count == 0:
        return replace(known, calls=known.calls + began) if began else known
    calls = began if began is not None else batches.rows / known.rows_per_call if known.calls else 0.0
    return ServiceTime(
        known.count * FORGETTING + batches.count,
        known.rows * FORGETTING + batches.rows,
        known.seconds * FORGETTING + batches.seconds,
        known.rows_squared * FORGETTING + batches.rows_squared,
        known.rows_seconds * FORGETTING + batches.rows_seconds,
        known.calls * FORGETTING + calls,
    )


def learn_batch(known: ServiceTime, rows: int, seconds: float) -> ServiceTime:
    """`known` after one batch of `rows` rows took `seconds`."""
    return ServiceTime(
        known.count * FORGETTING + 1,
        known.rows * FORGETTING + rows,
        known.seconds * FORGETTING + seconds,
        known.rows_squared * FORGETTING + rows * rows,
        known.rows_seconds * FORGETTING + rows * seconds,
    )
