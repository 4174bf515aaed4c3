"""A forecast of a rate: level and trend (Holt, 1957), and the error of earlier forecasts.

The error is that at the horizon: each forecast is kept until its time, and the spread of the errors widens
the next ones. A quantile of 0.9 is 1.28 spreads above the middle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_LEVEL_S = 20.0
_TREND_S = 60.0
_SPREAD_S = 600.0
_QUANTILE_90 = 1.2816


class Forecast(NamedTuple):
    """Level (per second), trend (per second, per second), mean square error, and forecasts whose time has not come."""

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


def learn(forecast: Forecast, at_s: float, rate: float, horizon_s: float) -> Forecast:
    """The forecast after the observed `rate` at `at_s`."""
    if forecast.at_s is None:
        return Forecast(level=rate, at_s=at_s)
    step_s = max(at_s - forecast.at_s, 1e-9)
    keep = math.exp(-step_s / _LEVEL_S)
    expected = forecast.level + forecast.trend * step_s
    level = keep * expected + (1 - keep) * rate
    keep = math.exp(-step_s / _TREND_S)
    trend = keep * forecast.trend + (1 - keep) * (level - forecast.level) / step_s
    square_error, pending = forecast.square_error, forecast.pending
    while pending and pending[0][0] <= at_s:
        keep = math.exp(-step_s / _SPREAD_S)
        square_error = keep * square_error + (1 - keep) * (rate - pending[0][1]) ** 2
        pending = pending[1:]
    due = (at_s + horizon_s, max(0.0, level + trend * horizon_s))
    return Forecast(level, trend, square_error, at_s, (*pending, due))
