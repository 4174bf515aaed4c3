"""A small shop whose habits are known, in the place of the real data."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

DAYS = 120
HOUSEHOLDS = 60
MILK, BREAD, CEREAL, BEER, SOAP, RARE = 10, 20, 30, 40, 50, 99
CATALOG: list[dict[str, Any]] = [
    {"product_id": i, "department": d, "brand": "National", "category": c, "type": t, "size": ""}
    for i, d, c, t in (
        (MILK, "GROCERY", "DAIRY", "MILK"),
        (BREAD, "GROCERY", "BAKERY", "BREAD"),
        (CEREAL, "GROCERY", "BREAKFAST", "CEREAL"),
        (BEER, "GROCERY", "DRINKS", "BEER"),
        (SOAP, "HOME", "CLEANING", "SOAP"),
        (RARE, "HOME", "GIFTS", "VASE"),
    )
]
PEOPLE = [{"household_id": h, "age": "65+" if h % 2 else "25-34", "income": ""} for h in range(1, HOUSEHOLDS + 1)]


def rows() -> list[tuple[int, int, int, int]]:
    """(household, product, basket, day): milk weekly for all; cereal with milk for two in three; beer for the young
    every tenth day; bread at random; soap monthly for one in two; the vase once."""
    random = np.random.default_rng(3)
    found = []
    for household in range(1, HOUSEHOLDS + 1):
        for day in range(household % 7, DAYS, 7):
            basket = household * 1000 + day
            found.append((household, MILK, basket, day))
            if household % 3:
                found.append((household, CEREAL, basket, day))
            if random.random() < 0.4:
                found.append((household, BREAD, basket, day))
        found += [(household, BEER, household * 1000 + d, d) for d in range(0, DAYS, 10) if household % 2 == 0]
        found += [(household, SOAP, household * 1000 + d, d) for d in range(0, DAYS, 30) if household % 4 < 2]
    found.append((1, RARE, 1001, 1))
    return sorted(found, key=lambda row: row[3])


def journey(purchases_type: Any) -> ModuleType:
    """A module with the names of `shop.journey` that tells of this shop."""
    module = ModuleType("shop.journey")
    columns = np.array(rows(), dtype=np.int64).T
    module.DAYS = DAYS  # type: ignore[attr-defined]
    module.purchases = lambda: purchases_type(*columns[:3], columns[3].astype(np.int16))  # type: ignore[attr-defined]
    module.products = lambda: CATALOG  # type: ignore[attr-defined]
    module.households = lambda: PEOPLE  # type: ignore[attr-defined]
    return module
