"""Cleaning: raw purchases become a history, in which everything is a small index and one purchase is counted once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Purchases:
    """Raw purchases, one row each; equal lengths."""

    household: Ints
    product: Ints
    basket: Ints
    day: NDArray[np.int16]
    """Days since the shop opened its books."""

    def between(self, first: int, end: int) -> Purchases:
        """Those of the days `first` to `end` - 1."""
        chosen = (self.day >= first) & (self.day < end)
        return Purchases(self.household[chosen], self.product[chosen], self.basket[chosen], self.day[chosen])


@dataclass(frozen=True)
class History:
    """Clean purchases by household and day; products and households are positions in `products`, `households`."""

    products: Ints
    households: Ints
    start: Ints
    """Household h has the rows start[h] to start[h + 1] - 1."""
    product: NDArray[np.int32]
    day: NDArray[np.int16]

    def of(self, household: int) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Products and days of the household at this position."""
        rows = slice(self.start[household], self.start[household + 1])
        return self.product[rows], self.day[rows]

    @property
    def household(self) -> NDArray[np.int32]:
        """Position of the household of every row."""
        return np.repeat(np.arange(len(self.households), dtype=np.int32), np.diff(self.start))


def clean(raw: Purchases, *, min_households: int = 60) -> History:
    """Drop what cannot be learned from: a product's second row in one basket, and products of few households."""
    households, household = np.unique(raw.household, return_inverse=True)
    ids, product = np.unique(raw.product, return_inverse=True)
    buyers = np.unique(product * len(households) + household) // len(households)
    kept = np.bincount(buyers, minlength=len(ids)) >= min_households
    position = np.cumsum(kept) - 1
    rows = np.flatnonzero(kept[product])
    _, baskets = np.unique(raw.basket[rows], return_inverse=True)
    _, first = np.unique(baskets * len(ids) + product[rows], return_index=True)
    rows = rows[first]
    rows = rows[np.lexsort((raw.day[rows], household[rows]))]
    return History(
        products=ids[kept],
        households=households,
        start=np.searchsorted(household[rows], np.arange(len(households) + 1)),
        product=position[product[rows]].astype(np.int32),
        day=raw.day[rows],
    )


def bought(history: History, later: Purchases) -> NDArray[np.bool_]:
    """[households, products]: who of `history` bought what of it in the purchases `later`."""
    answer = np.zeros((len(history.households), len(history.products)), dtype=bool)
    household, knows_household = find(history.households, later.household)
    product, knows_product = find(history.products, later.product)
    rows = knows_household & knows_product
    answer[household[rows], product[rows]] = True
    return answer


def find(sorted_ids: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Positions of `wanted` in `sorted_ids`, and whether they are there at all."""
    position = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return position, sorted_ids[position] == wanted
