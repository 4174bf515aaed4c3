"""EASE (Steck 2019): what goes with what, by one linear regression with a closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shop.history import History

Floats = NDArray[np.float32]


def counts(history: History) -> Floats:
    """[households, products]: in how many baskets."""
    shape = (len(history.households), len(history.products))
    flat = history.household.astype(np.int64) * shape[1] + history.product
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)


def fit(log_counts: Floats, *, penalty: float = 300.0) -> Floats:
    """[from, to]: how much a household's log count of one product speaks for another; nothing speaks for itself.

    The weights that predict each column from all others with the least squares: with P the inverse of
    (X'X + penalty I), -P[i, j] / P[j, j]. `penalty` was chosen on weeks before those that are held out.
    """
    gram = (log_counts.T @ log_counts).astype(np.float64)
    diagonal = np.diag_indices(len(gram))
    gram[diagonal] += penalty
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    weights[diagonal] = 0.0
    return weights.astype(np.float32)
