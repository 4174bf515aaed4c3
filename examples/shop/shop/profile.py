"""A profile: what is known of one household on a given day, over all products of the shelf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.shelf import Shelf

HALF_LIVES_DAYS = (14.0, 120.0)
TASTE_HALF_LIFE_DAYS = 60.0
ACTIVE_DAYS = 42
PRIOR_VISITS = 3.0
"""A household's own interval counts as much as that of all others after so many visits."""


@dataclass(frozen=True)
class Profile:
    """Arrays over the shelf's products."""

    baskets: Floats
    """In how many baskets it was."""
    lately: Floats
    """The same, a purchase 14 days ago counting half."""
    steady: Floats
    """The same with 120 days."""
    weight: Floats
    """The same with 60 days: what its taste is read from."""
    days_since: Floats
    """400 where never bought."""
    every_days: Floats
    """Days from one purchase to the next, drawn to what is usual while little is known; 0: never bought."""
    gap_days: Floats
    """Days from one purchase to the next by the household's own alone; 0: none or one purchase."""
    taste: Floats
    """How much everything else that it buys speaks for the product (EASE)."""
    trips: int
    """Days on which it shopped in the last six weeks."""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """What it bought before."""
        return self.baskets > 0


def profile(shelf: Shelf, product: NDArray[np.int32], day: NDArray[np.int16], today: int) -> Profile:
    """The profile by purchases, each a position on the shelf and a day not after `today`, in order of time."""
    count = len(shelf.products)
    age = (today - day).astype(np.float32)

    def summed(half_life_days: float) -> Floats:
        return np.bincount(product, weights=0.5 ** (age / half_life_days), minlength=count).astype(np.float32)

    baskets = np.bincount(product, minlength=count).astype(np.float32)
    seen = baskets > 0
    last, first = np.zeros(count, np.float32), np.zeros(count, np.float32)
    last[product] = day
    first[product[::-1]] = day[::-1]
    visits = np.bincount(np.unique(product.astype(np.int64) * 1024 + day) // 1024, minlength=count)
    gaps = np.maximum(visits - 1, 0)
    own = seen.nonzero()[0]
    return Profile(
        baskets=baskets,
        lately=summed(HALF_LIVES_DAYS[0]),
        steady=summed(HALF_LIVES_DAYS[1]),
        weight=summed(TASTE_HALF_LIFE_DAYS),
        days_since=np.where(seen, today - last, 400).astype(np.float32),
        every_days=np.where(
            seen, (last - first + PRIOR_VISITS * shelf.interval_days) / (gaps + PRIOR_VISITS), 0
        ).astype(np.float32),
        gap_days=((last - first) / np.maximum(gaps, 1)).astype(np.float32),
        taste=np.log1p(baskets[own]) @ shelf.together[own],
        trips=len(np.unique(day[age <= ACTIVE_DAYS])),
    )
