"""How good a ranking is, per household, and how sure one may be that one is better than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K = 10
_DISCOUNT = 1 / np.log2(np.arange(2, K + 2))


@dataclass(frozen=True)
class Result:
    """One method on one task; arrays over the households that bought something."""

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    coverage: float
    """Share of all products that stand in somebody's first ten."""


def evaluate(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> Result:
    """NDCG@10, Recall@10 and coverage of scores [households, products], by households that bought something."""
    rows = np.flatnonzero(relevant.any(axis=1))
    top = first(scores[rows])
    hit = np.take_along_axis(relevant[rows], top, axis=1)
    wanted = relevant[rows].sum(axis=1)
    ideal = np.cumsum(_DISCOUNT)[np.minimum(wanted, K) - 1]
    return Result(
        (hit * _DISCOUNT).sum(axis=1) / ideal, hit.sum(axis=1) / wanted, len(np.unique(top)) / scores.shape[1]
    )


def first(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions of the ten greatest of each row, the greatest first."""
    some = np.argpartition(-scores, K, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def interval(ours: NDArray[np.float64], theirs: NDArray[np.float64], *, draws: int = 4000) -> tuple[float, float]:
    """95 % interval of the mean difference, by a bootstrap over households that keeps the pairs together."""
    difference = ours - theirs
    random = np.random.default_rng(20171231)
    means = [difference[random.integers(0, len(difference), len(difference))].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
