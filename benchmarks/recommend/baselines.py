"""What a recommender must beat. Each gives scores [households, products] from the history alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from shop import ease

Scores = NDArray[np.float32]


def popularity(counts: Scores) -> Scores:
    """In how many households it is."""
    return np.broadcast_to((counts > 0).sum(axis=0).astype(np.float32), counts.shape)


def own_frequency(counts: Scores) -> Scores:
    """In how many of the household's baskets it was."""
    return counts


def own_frequency_then_popularity(counts: Scores) -> Scores:
    """The same; what is equal in the order of sales."""
    return counts + counts.sum(axis=0) * np.float32(1e-6)


def item_knn(counts: Scores, *, neighbours: int, shrink: float) -> Scores:
    """ItemKNN: cosine of log counts, shrunk, the nearest only."""
    x = np.log1p(counts)
    gram = x.T @ x
    length = np.sqrt(np.diag(gram))
    near = gram / (np.outer(length, length) + shrink)
    np.fill_diagonal(near, 0)
    edge = -np.partition(-near, neighbours, axis=0)[neighbours]
    return x @ np.where(near >= edge, near, 0)


def ease_log_counts(counts: Scores, *, penalty: float) -> Scores:
    """EASE on the log of counts."""
    x = np.log1p(counts)
    return x @ ease.fit(x, penalty=penalty)


def ease_binary(counts: Scores, *, penalty: float) -> Scores:
    """EASE on bought or not."""
    x = (counts > 0).astype(np.float32)
    return x @ ease.fit(x, penalty=penalty)


def als(counts: Scores, *, factors: int, alpha: float) -> Scores:
    """Alternating least squares of the package `implicit`, on log counts."""
    model = AlternatingLeastSquares(factors=factors, alpha=alpha, regularization=0.1, iterations=15, random_state=1)
    model.fit(csr_matrix(np.log1p(counts)), show_progress=False)
    answer: Scores = np.asarray(model.user_factors @ model.item_factors.T, dtype=np.float32)
    return answer


BASELINES: Mapping[str, tuple[Callable[..., Scores], tuple[dict[str, Any], ...]]] = {
    "popularity": (popularity, ({},)),
    "own frequency": (own_frequency, ({},)),
    "own frequency, then popularity": (own_frequency_then_popularity, ({},)),
    "ItemKNN": (item_knn, tuple({"neighbours": n, "shrink": s} for n in (200, 50, 20) for s in (100.0, 10.0))),
    "EASE, log counts": (ease_log_counts, tuple({"penalty": p} for p in (300.0, 1000.0, 100.0, 30.0, 10.0, 3.0))),
    "EASE, binary": (ease_binary, tuple({"penalty": p} for p in (1000.0, 300.0, 3000.0))),
    "implicit ALS": (als, tuple({"factors": f, "alpha": a} for f in (32, 128) for a in (1.0, 10.0))),
}
"""Name -> function and the settings to choose from; chosen on the four weeks before those that are held out."""
