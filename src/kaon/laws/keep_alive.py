"""How long the last replica stays without calls: as long as a start costs, later by the idle gaps so far.

Going to zero in a gap between calls is the ski-rental problem: a kept replica costs its time, a stopped one costs a
start, and the length of the gap is unknown. Keeping it for as long as a start costs never pays more than twice the
optimum (Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica 3, 1988), and no fixed rule does
better in the worst case. After `ENOUGH` gaps, the time t is chosen that would have cost least over them, with C the
cost of a start and g a gap:

    sum over gaps of  min(g, t)  +  C where g > t

The cost of a start is its own time, and the waiting of the callers that it holds: a second of that is worth `WAITING`
replica-seconds, by the objective's weights of latency and cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kaon.types.objective import Objective

ENOUGH = 50
"""Least number of idle gaps for a decision by them."""
WAITING = 60.0
"""Replica-seconds that a second of a waiting caller is worth."""
LEAST_S, MOST_S = 60.0, 4 * 3600.0
"""Bounds of the time: a stop and a start have their own cost, however short a start is."""
_FORGETTING = 0.99
_PER_DOUBLING = 4
_BUCKETS = math.ceil(_PER_DOUBLING * math.log2(MOST_S / LEAST_S)) + 1


@dataclass(frozen=True, slots=True)
class Gaps:
    """Idle gaps longer than `LEAST_S`: their number, and, faded, how many of each length and their summed lengths."""

    count: int = 0
    counts: tuple[float, ...] = (0.0,) * _BUCKETS
    lengths_s: tuple[float, ...] = (0.0,) * _BUCKETS


def learn(gaps: Gaps, gap_s: float) -> Gaps:
    """The gaps with one more; one that is too short to stop a replica does not count."""
    if gap_s <= LEAST_S:
        return gaps
    last = _BUCKETS - 1
    bucket = min(last, max(0, math.ceil(_PER_DOUBLING * math.log2(gap_s / LEAST_S) - 1e-9) - 1))
    counts = [count * _FORGETTING for count in gaps.counts]
    lengths = [length * _FORGETTING for length in gaps.lengths_s]
    counts[bucket] += 1
    lengths[bucket] += gap_s
    return Gaps(gaps.count + 1, tuple(counts), tuple(lengths))


def gaps_between(busy: Iterable[tuple[float, float]]) -> Gaps:
    """The gaps between spans (begin, end) with calls, epoch seconds, in order of their ends."""
    gaps, until = Gaps(), math.inf
    for begin, end in busy:
        gaps = learn(gaps, begin - until)
        until = end
    return gaps


def start_cost_s(start_s: float, objective: Objective) -> float:
    """The cost of a start of `start_s` seconds, in replica-seconds."""
    weights = objective.weights
    if weights.cost <= 0:
        return math.inf
    return start_s * (1 + WAITING * weights.latency / weights.cost)


def keep_s(gaps: Gaps, cost_s: float) -> float:
    """How long to keep the last replica, in seconds, when a start costs `cost_s` replica-seconds."""
    rented = min(max(cost_s, LEAST_S), MOST_S)
    if gaps.count < ENOUGH or math.isinf(cost_s):
        return rented
    # Between two bounds of buckets a longer time only costs more, so the best one is a bound.
    paid_s, longer = 0.0, sum(gaps.counts)
    best_s, least = LEAST_S, longer * (LEAST_S + cost_s)
    for bucket in range(_BUCKETS - 1):
        paid_s += gaps.lengths_s[bucket]
        longer -= gaps.counts[bucket]
        cost = paid_s + longer * (bound_s(bucket) + cost_s)
        if cost < least:
            best_s, least = bound_s(bucket), cost
    return best_s


def bound_s(bucket: int) -> float:
    """The longest gap in a bucket; the last bucket has no bound."""
    return LEAST_S * 2 ** ((bucket + 1) / _PER_DOUBLING) if bucket < _BUCKETS - 1 else math.inf
