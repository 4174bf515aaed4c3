"""The ranker: an additive logistic regression, so that every score is a sum of parts that can be told.

Each feature enters as a line with bends (hinges at its quantiles), once for all products and once more for those that
the household bought before. Fitted by Newton's method in chunks; on 600,000 rows that is a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.features import NAMES, PARTS

BENDS = 3
CHUNK = 1 << 15


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker: plain arrays."""

    centre: Floats
    scale: Floats
    bends: Floats
    """[features, BENDS], in scaled units."""
    weights: Floats
    usual: Floats
    """Mean of every column where it was fitted: parts are told against it."""

    def score(self, features: Floats, seen: NDArray[np.bool_]) -> Floats:
        """Log odds that the household buys the product within the next four weeks."""
        return self._columns(features, seen) @ self.weights

    def parts(self, features: Floats, seen: NDArray[np.bool_]) -> dict[str, Floats]:
        """What each part adds to the score, against a usual candidate. They sum to the score less a constant."""
        added = (self._columns(features, seen) - self.usual) * self.weights
        return {part: added[:, at].sum(1) for part, at in _columns_of_parts().items()}

    def _columns(self, features: Floats, seen: NDArray[np.bool_]) -> Floats:
        return columns(features, seen, self.centre, self.scale, self.bends)


def columns(features: Floats, seen: NDArray[np.bool_], centre: Floats, scale: Floats, bends: Floats) -> Floats:
    """[rows, columns]: scaled features, their hinges, both again for what was bought before, and two constants."""
    scaled = (features - centre) / scale
    hinges = np.maximum(scaled[:, :, None] - bends, 0).reshape(len(scaled), -1)
    lines = np.concatenate([scaled, hinges], axis=1)
    bought = seen.astype(np.float32)[:, None]
    return np.concatenate([lines, lines * bought, bought, np.ones_like(bought)], axis=1)


@cache
def _columns_of_parts() -> dict[str, NDArray[np.intp]]:
    lines = [PARTS[name] for name in NAMES] + [PARTS[name] for name in NAMES for _ in range(BENDS)]
    names = np.array([*lines, *lines, "habit", "household"])
    return {part: np.flatnonzero(names == part) for part in dict.fromkeys(PARTS.values())}


def fit(
    features: Floats, seen: NDArray[np.bool_], label: NDArray[np.bool_], *, penalty: float = 10.0, rounds: int = 12
) -> Ranker:
    """The weights of the greatest likelihood less penalty / 2 times their squares."""
    centre, scale = features.mean(0), features.std(0) + 1e-6
    quantiles = np.linspace(0, 1, BENDS + 2)[1:-1]
    bends = ((np.quantile(features, quantiles, axis=0) - centre) / scale).T.astype(np.float32)

    def chunks() -> Iterator[tuple[Floats, Floats]]:
        for begin in range(0, len(features), CHUNK):
            rows = slice(begin, begin + CHUNK)
            yield columns(features[rows], seen[rows], centre, scale, bends), label[rows].astype(np.float32)

    width = 2 * features.shape[1] * (BENDS + 1) + 2
    weights = np.zeros(width)
    usual = np.zeros(width)
    for _ in range(rounds):
        slope, curve = penalty * weights, penalty * np.eye(width)
        usual[:] = 0
        for x, y in chunks():
            p = 1 / (1 + np.exp(-(x @ weights.astype(np.float32))))
            slope += x.T @ (p - y)
            curve += x.T @ (x * (p * (1 - p))[:, None])
            usual += x.sum(0)
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 0.01:
            break
    usual /= max(len(features), 1)
    return Ranker(centre, scale, bends, weights.astype(np.float32), usual.astype(np.float32))
