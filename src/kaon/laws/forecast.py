"""A rate some seconds ahead: level and trend (Holt, 1957), and how far they were off.

The error that counts is the one at the horizon: each forecast is kept until its time has come, and the
spread of what it missed by widens the next ones. A quantile of 0.9 is 1.28 spreads above the middle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_LEVEL_S = 20.0
_TREND_S = 60.0
_SPREAD_S = 600.0
_QUANTILE_90 = 1.2816


class Forecast(NamedTuple):
    """Level (per second), trend (per second, per second), mean square error, and forecasts to be judged."""

    level: float = 0.0
    trend: float = 0.0
    square_error: float = 0.0
    at_s: float | None = None
    pending: tuple[tuple[float, float], ...] = ()

    def ahead(self, horizon_s: float) -> float:
        """The expected rate `horizon_s` from now."""
        return max(0.0, self.level + self.trend * horizon_s)

    def high(self, horizon_s: float) -> float:
        """The 0.9 quantile of the same."""
        return self.ahead(horizon_s) + _QUANTILE_90 * math.sqrt(self.square_error)


def learn(known: Forecast, at_s: float, rate: float, horizon_s: float) -> Forecast:
    """`known` after the rate at `at_s` was seen to be `rate`."""
    if known.at_s is None:
        return Forecast(level=rate, at_s=at_s)
    step_s = max(at_s - known.at_s, 1e-9)
    keep = math.exp(-step_s / _LEVEL_S)
    expected = known.level + known.trend * step_s
    level = keep * expected + (1 - keep) * rate
    keep = math.exp(-step_s / _TREND_S)
    trend = keep * known.trend + (1 - keep) * (level - known.level) / step_s
    square_error, pending = known.square_error, known.pending
    while pending and pending[0][0] <= at_s:
        keep = math.exp(-step_s / _SPREAD_S)
        square_error = keep * square_error + (1 - keep) * (rate - pending[0][1]) ** 2
        pending = pending[1:]
    due = (at_s + horizon_s, max(0.0, level + trend * horizon_s))
    return Forecast(level, trend, square_error, at_s, (*pending, due))
