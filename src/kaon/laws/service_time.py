"""What a batch of n rows takes, s(n) = a n + b, learnt from sums; and what a replica can serve by it.

Sums travel well: a replica adds its batches up, the agent adds its replicas up, and least squares needs no
more. Older sums fade by `FORGETTING` per observation (at one per 2 s, half of the weight is of the
last 70 s), so that a slower model or machine is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kaon.types.observation import Batches

FORGETTING = 0.98
_LEAST_SPREAD = 0.05
"""Variance of rows per batch below which a and b cannot be told apart."""


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Faded sums over batches."""

    count: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0
    calls: float = 0.0
    """Calls that these rows came with; 0: nobody said, and a call is taken for one row."""

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
        return a, mean_s - a * mean_rows

    def best(self, largest: int, within_s: float) -> tuple[int, float]:
        """(rows, seconds) of the batch that serves most while a row that waits for one batch and rides in
        the next is answered `within_s`; one row when even that is too slow."""
        a, b = self.line()
        fitting = largest if a <= 0 else int((within_s / 2 - b) / a + 1e-9)
        if a <= 0 and 2 * b > within_s:
            fitting = 1
        rows = min(max(fitting, 1), largest)
        return rows, max(a * rows + b, 1e-6)


def learn(known: ServiceTime, batches: Batches, began: int | None = None) -> ServiceTime:
    """`known` after `batches`, to which `began` calls came; nothing fades while there is nothing new.

    Where nobody says how many calls began, a call is taken to carry as many rows as before.
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
