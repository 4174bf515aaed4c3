"""The loss of a window of traffic, and its raw parts.

A plain w1 (t - t*) + w2 (r* - r) + w3 (u* - u) would reward latencies below the target, and dropped
calls. So each part is zero where its target is met:

    Lt = mean over calls of min(tau softplus((T / t* - 1) / tau), 3)      tau = 0.05
    Lr = (r* - r)+ / (1 - r*)                          r = answered well in time / arrived
    Lu = (lo - u)+ / lo + k (u - hi)+ / (1 - hi)       u = busy / ready replica-seconds
    Lc = cost per call / reference cost                starting replicas included
    L  = wc Lc + wt Lt + wu Lu + y Lr

`Lt` is a mean over calls, so that it stays unbiased when calls are sampled, and is clipped; `Lr` never
is. `y` is the price of a missed call: it rises while the error budget burns faster than it lasts, by
y <- clip(y + 0.5 (burn - 1), 1, 50), so that completion behaves as a constraint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.types.objective import Objective

SOFTNESS = 0.05
WORST_LATENCY = 3.0
LEAST_PRICE, MOST_PRICE, PRICE_STEP = 1.0, 50.0, 0.5
BURN_S = 1800.0
"""Time constant of the burn rate of the error budget."""
LEAST_CALLS = 50
"""Windows with fewer calls are merged with the next one."""
OVERLOAD = 2.0
"""k: how much worse it is to be above the band than below it."""


def latency_loss(relative: float) -> float:
    """The loss of one call that took `relative` times the target."""
    x = (relative - 1) / SOFTNESS
    if x > 50:  # softplus(x) is x; and its exponential would overflow
        return min(relative - 1, WORST_LATENCY)
    return min(SOFTNESS * math.log1p(math.exp(x)), WORST_LATENCY)


@dataclass(frozen=True, slots=True)
class LossInputs:
    """A window of calls by arrival: counts, the sum of their `latency_loss`, and replica-seconds."""

    arrivals: int
    well: int
    latency_losses: float
    busy_s: float
    ready_s: float
    paid_s: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A window's loss, its parts, and the measured shares."""

    total: float
    latency: float
    completion: float
    utilisation: float
    cost: float
    completed: float
    busy: float


def merge(first: LossInputs, second: LossInputs) -> LossInputs:
    """Two windows as one."""
    return LossInputs(
        first.arrivals + second.arrivals,
        first.well + second.well,
        first.latency_losses + second.latency_losses,
        first.busy_s + second.busy_s,
        first.ready_s + second.ready_s,
        first.paid_s + second.paid_s,
    )


def merged(windows: list[LossInputs]) -> list[LossInputs]:
    """`windows` where those with too few calls are joined to the next one; the rest is joined to the last."""
    return [whole for whole, _ in joined(windows)]


def joined(windows: list[LossInputs]) -> list[tuple[LossInputs, int]]:
    """The windows as `merged`, each with the number of its parts."""
    out: list[tuple[LossInputs, int]] = []
    held: tuple[LossInputs, int] | None = None
    for window in windows:
        held = (window, 1) if held is None else (merge(held[0], window), held[1] + 1)
        if held[0].arrivals >= LEAST_CALLS:
            out.append(held)
            held = None
    if held is not None:
        last = out.pop() if out else None
        out.append(held if last is None else (merge(last[0], held[0]), last[1] + held[1]))
    return out


def loss(objective: Objective, inputs: LossInputs, reference_s: float, price: float = LEAST_PRICE) -> Loss:
    """The loss of `inputs`.

    `reference_s` is the reference cost of a call, in replica-seconds; `price` is the dual variable y.
    """
    calls = max(inputs.arrivals, 1)
    completed = inputs.well / inputs.arrivals if inputs.arrivals else 1.0
    busy = inputs.busy_s / inputs.ready_s if inputs.ready_s > 0 else 0.0
    latency = inputs.latency_losses / calls
    completion = max(0.0, objective.completion - completed) / (1 - objective.completion)
    utilisation = _band(busy, objective.utilisation) if inputs.arrivals and inputs.ready_s > 0 else 0.0
    cost = inputs.paid_s / calls / reference_s if inputs.arrivals else 0.0
    weights = objective.weights
    total = weights.cost * cost + weights.latency * latency + weights.utilisation * utilisation + price * completion
    return Loss(total, latency, completion, utilisation, cost, completed, busy)


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a missed call: the dual variable y of the constraint on completion.

    `burn` is the burn rate of the error budget over half an hour, faded; at 1 the budget is used up exactly.
    """

    value: float = LEAST_PRICE
    burn: float = 0.0

    def after(self, objective: Objective, completed: float, span_s: float) -> Price:
        """The price after a window of `span_s` seconds in which a share `completed` of the calls was answered well."""
        burn = faded(self.burn, (1 - completed) / (1 - objective.completion), span_s)
        return Price(min(max(self.value + PRICE_STEP * (burn - 1), LEAST_PRICE), MOST_PRICE), burn)


def faded(burn: float, now: float, span_s: float) -> float:
    """A burn rate over half an hour, after a window of `span_s` seconds in which it was `now`."""
    keep = math.exp(-span_s / BURN_S)
    return keep * burn + (1 - keep) * now


def _band(share: float, band: tuple[float, float]) -> float:
    low, high = band
    return max(0.0, low - share) / low + OVERLOAD * max(0.0, share - high) / (1 - high)
