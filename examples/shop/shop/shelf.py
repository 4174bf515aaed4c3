"""The shelf: what is known of every product on a given day, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shop import ease
from shop.ease import Floats
from shop.history import History, Ints

RECENT_DAYS = 28
FRESH_DAYS = 56
SEASON_DAYS = 84


@dataclass(frozen=True)
class Shelf:
    """Arrays over the products of a history; `together` is [from, to]."""

    today: int
    products: Ints
    recent: Floats
    """Households that bought it in the last four weeks."""
    ever: Floats
    trend: Floats
    """Log of the last four weeks over the eight before, per week: 0 is steady."""
    loyal: Floats
    """Share of its households that bought it on a second day."""
    first_bought: Floats
    """Households that bought it for the first time in the last eight weeks."""
    interval_days: Floats
    """Days between two purchases by one household, on average."""
    kind: NDArray[np.int32]
    """Its type, such as FLUID MILK WHITE ONLY, as a number."""
    category: NDArray[np.int32]
    share_of_kind: Floats
    """Log of its share of the households that bought its type."""
    together: Floats


def stock(history: History, catalog: Mapping[int, Mapping[str, str]], *, today: int) -> Shelf:
    """The shelf on the morning of `today`: `history` holds the days before. `catalog` tells type and category."""
    count = len(history.products)
    household, product, age = history.household, history.product, today - history.day.astype(np.int32)

    def households(newest: int, oldest: int) -> Floats:
        rows = (age > newest) & (age <= oldest)
        pairs = np.unique(product[rows].astype(np.int64) * len(history.households) + household[rows])
        return np.bincount(pairs // len(history.households), minlength=count).astype(np.float32)

    recent, before, ever = households(0, RECENT_DAYS), households(RECENT_DAYS, SEASON_DAYS), households(0, today + 1)
    visits, first, last = _pairs(history)
    again = visits > 1
    span = np.where(again, last - first, 0)
    seen = visits > 0
    kind = _codes([catalog.get(int(p), {}).get("type", "") for p in history.products])
    category = _codes([catalog.get(int(p), {}).get("category", "") for p in history.products])
    return Shelf(
        today=today,
        products=history.products,
        recent=recent,
        ever=ever,
        trend=np.log((recent + 2) / (before / 2 + 2)),
        loyal=((again.sum(0) + 1) / (seen.sum(0) + 3)).astype(np.float32),
        first_bought=(seen & (first >= today - FRESH_DAYS)).sum(0).astype(np.float32),
        interval_days=_mean(span / np.maximum(visits - 1, 1), again),
        kind=kind,
        category=category,
        share_of_kind=np.log((ever + 1) / (np.bincount(kind, weights=ever)[kind] + 1)).astype(np.float32),
        together=ease.fit(np.log1p(ease.counts(history))),
    )


def _pairs(history: History) -> tuple[Floats, Floats, Floats]:
    """[households, products]: number of days, first day, last day of purchase."""
    shape = (len(history.households), len(history.products))
    pair = history.household.astype(np.int64) * shape[1] + history.product
    order = np.lexsort((history.day, pair))
    pair, day = pair[order], history.day[order].astype(np.float32)
    new_day = np.r_[True, (np.diff(pair) != 0) | (np.diff(day) != 0)]
    visits = np.bincount(pair[new_day], minlength=shape[0] * shape[1]).astype(np.float32)
    first, last = np.zeros_like(visits), np.zeros_like(visits)
    begins = np.r_[True, np.diff(pair) != 0]
    first[pair[begins]] = day[begins]
    last[pair] = day  # in order of time: the last one stays
    return visits.reshape(shape), first.reshape(shape), last.reshape(shape)


def _mean(values: NDArray[np.floating], chosen: NDArray[np.bool_]) -> Floats:
    return ((values * chosen).sum(0) / np.maximum(chosen.sum(0), 1)).astype(np.float32)


def _codes(words: Sequence[str]) -> NDArray[np.int32]:
    return np.unique(np.asarray(words, dtype=str), return_inverse=True)[1].astype(np.int32)
