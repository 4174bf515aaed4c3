"""Training: what would have been right four weeks ago teaches the ranker what is right now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shop import ranker
from shop.ease import Floats
from shop.features import candidates, features
from shop.history import History, Purchases, bought, clean
from shop.profile import profile
from shop.ranker import Ranker
from shop.shelf import Shelf, stock

HORIZON_DAYS = 28
TOP = {"all": 30, "new": 100}
"""How many products by taste, and by popularity, are judged for each of the two questions."""

Catalog = Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class Examples:
    """Rows for the ranker: a household, a product, and whether it bought it in the four weeks that followed."""

    features: Floats
    seen: NDArray[np.bool_]
    label: NDArray[np.bool_]


def examples(
    raw: Purchases, catalog: Catalog, *, today: int, households: int | None = None, min_households: int = 60
) -> dict[str, Examples]:
    """Examples for both questions ('all': what it will buy; 'new': what it will take up) as of the morning of `today`.

    Features see the days before `today` only, labels the 28 days from it. `households`: so many of them, evenly
    chosen; None: all.
    """
    history = clean(raw.between(0, today), min_households=min_households)
    shelf = stock(history, catalog, today=today)
    label = bought(history, raw.between(today, today + HORIZON_DAYS))
    count = len(history.households)
    chosen = np.linspace(0, count - 1, min(households or count, count)).astype(int)
    rows = {question: [_rows(shelf, history, int(h), label[h], question) for h in chosen] for question in TOP}
    return {question: merge(parts) for question, parts in rows.items()}


def _rows(shelf: Shelf, history: History, household: int, label: NDArray[np.bool_], question: str) -> Examples:
    own = profile(shelf, *history.of(household), shelf.today)
    judged = candidates(shelf, own, top=TOP[question], new_only=question == "new")
    return Examples(features(shelf, own)[judged], own.seen[judged], label[judged])


def merge(parts: Iterable[Examples]) -> Examples:
    """One after the other."""
    kept = list(parts)
    return Examples(
        np.concatenate([part.features for part in kept]),
        np.concatenate([part.seen for part in kept]),
        np.concatenate([part.label for part in kept]),
    )


def train(windows: Iterable[Mapping[str, Examples]]) -> dict[str, Ranker]:
    """One ranker for each question, from the examples of one or more days."""
    kept = list(windows)
    merged = {question: merge(window[question] for window in kept) for question in TOP}
    return {question: ranker.fit(e.features, e.seen, e.label) for question, e in merged.items()}
