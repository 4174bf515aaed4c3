"""A contest of policies for following the load: many candidates, scored on the calls that arrived.

No fixed parameters win on every load. Where load is smooth, a tight margin and a short memory are cheap and
safe; where bursts are shorter than a start, following is useless and holding the last peak wins. As
arrivals do not depend on the number of replicas, it can be computed afterwards what *every* candidate
would have missed and paid, without trying it. Each candidate is a triple:

- the *demand* that it follows (in replicas: rate x time per call; steady, or quick and forecast);
- the *hold*: it provides for the highest demand of the last so many seconds;
- the *staffing* (share, beta): need(d) = ceil(share d + beta sqrt(d)). A beta above 0 is square-root staffing;
  a share below 1 holds less than the peak, for peaks that are rarer than the error budget.

Its capacity is the least that it has wanted during the last start time: a replica ordered later is not ready
yet, and one that was stopped meanwhile is gone. Work beyond the capacity waits; once the wait is longer than a
call may take, all arriving calls are late, until the backlog is worked off. Misses and cost fade over `MEMORY_S`, and
the cheapest candidate whose misses are allowed is chosen. This costs about a hundred additions per observation,
because need is monotone: extremes are kept per demand and hold, not per candidate.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

from kaon.laws.windows import Peaks

HOLDS_S = (16.0, 60.0, 300.0, 1200.0, 5400.0)
STAFFINGS = (
    (0.4, 0.0),
    (0.55, 0.0),
    (0.7, 0.0),
    (0.8, 0.0),
    (0.9, 0.0),
    (1.0, 0.0),
    (1.0, 0.25),
    (1.0, 0.5),
    (1.0, 1.0),
    (1.0, 2.0),
    (1.0, 3.0),
)
MEMORY_S = 2700.0
TRUSTED_AFTER_S = 240.0
"""For the first seconds the cautious `FIRST` is followed."""
FIRST = (0, 2, 8)
"""Steady demand held for 300 s, with a beta of 1."""
_MOST_WEIGHT = 1e9
_REMEMBERED = 16_384
"""Size of the cache of `needs`: peaks stay for long, so nearly all demands are in it."""
_BETTER = 0.98
"""A new choice must cost less than this share of the cost of the present one."""


class Contest(NamedTuple):
    """The missed work and the cost of every candidate, and all work.

    The sums fade relative to new terms: each term has a larger `weight` than the one before, the same for all sums.
    """

    start_s: float
    holds: Peaks
    """The peaks of each demand, by hold."""
    lows: Peaks
    """The lowest of these during a start, negated."""
    backlogs: tuple[float, ...]
    missed: tuple[float, ...]
    paid: tuple[float, ...]
    work: float = 0.0
    seen_s: float = 0.0
    weight: float = 1.0
    chosen: int = 0


def begin(demands: int, start_s: float) -> Contest:
    """A contest between all candidates over `demands` kinds of demand, for replicas that start in `start_s`."""
    pairs = demands * len(HOLDS_S)
    nothing = (0.0,) * (pairs * len(STAFFINGS))
    first = (FIRST[0] * len(HOLDS_S) + FIRST[1]) * len(STAFFINGS) + FIRST[2]
    return Contest(
        start_s, Peaks.of(pairs, HOLDS_S), Peaks.of(pairs, (start_s,)), nothing, nothing, nothing, chosen=first
    )


def need(demand: float, share: float, beta: float) -> int:
    """Replicas for `demand` replicas' worth of work; always one when there is any."""
    return math.ceil(share * demand + beta * math.sqrt(demand) - 1e-9)


def step(
    state: Contest,
    at_s: float,
    span_s: float,
    demands: tuple[float, ...],
    work: float,
    slack_s: float,
    patience_s: float,
    margin: float = 1.0,
) -> Contest:
    """The contest after `work` replica-seconds arrived in `span_s`.

    A call may wait `slack_s` and still be in time; after `patience_s` its caller leaves. All demands, also held ones,
    are multiplied by `margin`.
    """
    holds = state.holds.add(at_s, [demand for demand in demands for _ in HOLDS_S])
    peaks = holds.values()
    lows = state.lows.add(at_s, [-peak for peak in peaks])
    able: list[float] = []
    for low in lows.values():
        able += needs(-low * margin)
    needed: list[float] = []
    for peak in peaks:
        needed += needs(peak * margin)
    backlogs = [
        left if (left := before + work - count * span_s) > 0 else 0.0
        for before, count in zip(state.backlogs, able, strict=True)
    ]
    weight = state.weight * math.exp(min(span_s / MEMORY_S, 50.0))
    weighted_s, lost = span_s * weight, work * weight
    paid = [before + count * weighted_s for before, count in zip(state.paid, needed, strict=True)]
    missed = list(state.missed)
    for candidate in compress(range(len(backlogs)), backlogs):
        backlog, count = backlogs[candidate], able[candidate]
        if backlog > count * slack_s:
            missed[candidate] += lost
        if backlog > count * patience_s:
            backlogs[candidate] = count * patience_s
    done = state.work + lost
    if weight > _MOST_WEIGHT:
        missed, paid, done = [m / weight for m in missed], [p / weight for p in paid], done / weight
        weight = 1.0
    return Contest(
        state.start_s,
        holds,
        lows,
        tuple(backlogs),
        tuple(missed),
        tuple(paid),
        done,
        state.seen_s + span_s,
        weight,
        state.chosen,
    )


@lru_cache(_REMEMBERED)
def needs(demand: float) -> tuple[float, ...]:
    """`need` for every staffing; as floats, which multiply more quickly with floats than integers do."""
    return tuple([float(need(demand, share, beta)) for share, beta in STAFFINGS])


def choose(state: Contest, allowed: float) -> Contest:
    """The contest, with the cheapest candidate chosen that missed at most the share `allowed` of the work."""
    if state.seen_s < TRUSTED_AFTER_S:
        return state
    missed, paid, limit = state.missed, state.paid, allowed * state.work
    best, least = None, math.inf
    for candidate, cost in enumerate(paid):
        if cost < least and missed[candidate] <= limit:
            best, least = candidate, cost
    if best is None:
        best = min(range(len(paid)), key=lambda candidate: (missed[candidate], paid[candidate]))
    elif missed[state.chosen] <= limit and least > _BETTER * paid[state.chosen]:
        return state
    return state if best == state.chosen else state._replace(chosen=best)


class WantedReplicas(NamedTuple):
    """The replicas that the chosen candidate wants, with its demand and parameters."""

    replicas: int
    demand: float
    hold_s: float
    share: float
    beta: float


def wanted(state: Contest, climbing: float = 0.0, margin: float = 1.0) -> WantedReplicas:
    """The replicas that the chosen candidate wants, at least for the demand `climbing`; held demands are multiplied by
    `margin`."""
    pair, staffing = divmod(state.chosen, len(STAFFINGS))
    demand = max(state.holds.values()[pair] * margin, climbing)
    share, beta = STAFFINGS[staffing]
    return WantedReplicas(need(demand, share, beta), demand, HOLDS_S[pair % len(HOLDS_S)], share, beta)
