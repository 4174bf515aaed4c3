"""The price of a missed call: the dual variable of the constraint that completion is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.laws.loss import LEAST_PRICE, Loss, next_price
from kaon.types.objective import Objective
from kaon.types.window import LossParts

MEMORY_S = 1800.0


@dataclass(frozen=True, slots=True)
class Price:
    """`burn` is how many times as fast as it lasts the error budget went, over half an hour, faded."""

    value: float = LEAST_PRICE
    burn: float = 0.0

    def after(self, objective: Objective, seen: Loss | LossParts, span_s: float) -> Price:
        """The price after a window of `span_s` seconds."""
        burn = faded(self.burn, (1 - seen.completed) / (1 - objective.completion), span_s)
        return Price(next_price(self.value, burn), burn)


def faded(known: float, now: float, span_s: float) -> float:
    """A burn rate over half an hour, after a window of `span_s` seconds in which it was `now`."""
    keep = math.exp(-span_s / MEMORY_S)
    return keep * known + (1 - keep) * now
