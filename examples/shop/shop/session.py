"""The session: what a household did since the model was trained, and how that moves its scores.

The real data holds purchases only, so nothing can be learned of clicks: their weights are a stated rule, and the
first thing to learn once a shop has logged its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.shelf import Shelf

INTEREST = {"view": 0.3, "click": 0.6, "comment": 0.9, "share": 1.2}
"""Log odds that one event adds to its own product; a purchase counts as one in the history."""
NEIGHBOURS = 0.5
"""What goes with it best gets so much of that."""
HALF_LIFE_DAYS = 2.0
MOST = 2.5


@dataclass(frozen=True)
class Act:
    """Something that a household did: a purchase, view, click, comment or share, `day` in days of the shop."""

    product_id: int
    kind: str
    day: float


@dataclass(frozen=True)
class Session:
    """What acts come to, over the products of the shelf."""

    bought: NDArray[np.int32]
    bought_on: NDArray[np.int16]
    interest: Floats
    """Log odds added to each product."""
    last: dict[int, str] = field(default_factory=dict)
    """Position of a product -> the last thing done with it."""
    cause: NDArray[np.int64] | None = None
    """Position of the product whose acts moved each product most."""


def session(shelf: Shelf, acts: Sequence[Act], now: float) -> Session:
    """Sum up the acts, oldest first; those on products that the shelf does not know say nothing."""
    position = {int(product): index for index, product in enumerate(shelf.products)} if acts else {}
    known = [(position[act.product_id], act) for act in acts if act.product_id in position]
    purchases = [(index, act) for index, act in known if act.kind == "purchase"]
    direct: dict[int, float] = {}
    for index, act in known:
        weight = INTEREST.get(act.kind, 0.0) * 0.5 ** (max(now - act.day, 0.0) / HALF_LIFE_DAYS)
        direct[index] = direct.get(index, 0.0) + weight
    interest = np.zeros(len(shelf.products), np.float32)
    cause = np.full(len(shelf.products), -1, np.int64)
    for index, weight in direct.items():
        beside = np.maximum(shelf.together[index], 0)
        gain = NEIGHBOURS * weight * beside / max(float(beside.max()), 1e-6)
        gain[index] = weight
        cause = np.where(gain > interest, index, cause)
        interest += gain
    return Session(
        bought=np.array([index for index, _ in purchases], np.int32),
        bought_on=np.array([int(act.day) for _, act in purchases], np.int16),
        interest=np.minimum(interest, MOST),
        last={index: act.kind for index, act in known},
        cause=cause,
    )
