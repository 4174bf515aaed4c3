"""Segments: what to show to a household of which nothing is known but, perhaps, its age and income."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.history import History

SEASON_DAYS = 84
PRIOR_HOUSEHOLDS = 50.0
"""A segment's own share counts as much as that of all once it has so many households."""


@dataclass(frozen=True)
class Segments:
    """Shares of households that bought each product in the last twelve weeks."""

    everybody: Floats
    names: NDArray[np.str_]
    """'age 45-54', 'income 50-74K', ..."""
    share: Floats
    """[segments, products]"""

    def scores(self, age: str, income: str) -> tuple[Floats, tuple[str, ...]]:
        """Expected shares for somebody of this age and income, and the segments that were known of them.

        Each known segment multiplies the share of all by how much more of it buys the product.
        """
        wanted = tuple(name for name in (f"age {age}", f"income {income}") if name in self.names)
        scores = self.everybody.copy()
        for name in wanted:
            scores *= self.share[np.flatnonzero(self.names == name)[0]] / self.everybody
        return scores, wanted


def segment(history: History, people: Sequence[Mapping[str, object]], *, today: int) -> Segments:
    """Segments by what `people` (household_id, age, income) told; the others count for everybody only."""
    recent = history.day >= today - SEASON_DAYS
    owns = np.zeros((len(history.households), len(history.products)), dtype=bool)
    owns[history.household[recent], history.product[recent]] = True
    everybody = (owns.sum(0) + 1) / (len(owns) + 1)
    position = {int(household): index for index, household in enumerate(history.households)}
    members: dict[str, list[int]] = {}
    for person in people:
        index = position.get(int(str(person["household_id"])))
        for trait in ("age", "income"):
            if index is not None and person[trait]:
                members.setdefault(f"{trait} {person[trait]}", []).append(index)
    names = sorted(members)
    share = [
        (owns[members[name]].sum(0) + PRIOR_HOUSEHOLDS * everybody) / (len(members[name]) + PRIOR_HOUSEHOLDS)
        for name in names
    ]
    return Segments(
        everybody.astype(np.float32),
        np.array(names, dtype=str),
        np.array(share, dtype=np.float32).reshape(len(names), len(everybody)),
    )
