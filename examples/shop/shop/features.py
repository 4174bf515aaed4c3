"""Features: the numbers by which a product is judged for a household, and which products are judged at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.profile import Profile
from shop.shelf import Shelf

PARTS = {
    "baskets": "habit",
    "lately": "habit",
    "steady": "habit",
    "days_since": "rhythm",
    "overdue": "rhythm",
    "taste": "taste",
    "kind": "category",
    "category": "category",
    "share_of_kind": "category",
    "recent": "popularity",
    "ever": "popularity",
    "loyal": "popularity",
    "first_bought": "popularity",
    "trend": "trend",
    "trips": "household",
}
"""Feature -> the part of the score that it belongs to, which is what a reader is told of."""
NAMES = tuple(PARTS)


def features(shelf: Shelf, own: Profile) -> Floats:
    """[products, features], in the order of `NAMES`."""
    of_kind = np.bincount(shelf.kind, weights=own.weight)[shelf.kind]
    of_category = np.bincount(shelf.category, weights=own.weight)[shelf.category]
    overdue = np.log(np.maximum(own.days_since, 0.5) / np.maximum(own.every_days, 1.0))
    columns = {
        "baskets": np.log1p(own.baskets),
        "lately": np.log1p(own.lately),
        "steady": np.log1p(own.steady),
        "days_since": np.log1p(own.days_since),
        "overdue": np.where(own.seen, overdue, 3.0),
        "taste": own.taste,
        "kind": np.log1p(np.maximum(of_kind - own.weight, 0)),
        "category": np.log1p(np.maximum(of_category - of_kind, 0)),
        "share_of_kind": shelf.share_of_kind,
        "recent": np.log1p(shelf.recent),
        "ever": np.log1p(shelf.ever),
        "loyal": shelf.loyal,
        "first_bought": np.log1p(shelf.first_bought),
        "trend": shelf.trend,
        "trips": np.full(len(shelf.products), np.log1p(own.trips)),
    }
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32)


def candidates(shelf: Shelf, own: Profile, *, top: int, new_only: bool) -> NDArray[np.int64]:
    """Positions worth judging: what was bought before, and the `top` by taste and by popularity of what was not."""
    new = np.flatnonzero(~own.seen)
    chosen = [new[_largest(own.taste[new], top)], new[_largest(shelf.recent[new], top)]]
    if not new_only:
        chosen.append(np.flatnonzero(own.seen))
    return np.unique(np.concatenate(chosen))


def _largest(values: Floats, count: int) -> NDArray[np.int64]:
    return np.argpartition(-values, count)[:count] if count < len(values) else np.arange(len(values))
