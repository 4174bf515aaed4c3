"""How long the last replica stays without a call: as long as a start costs, then as idle gaps have taught.

Going to zero in a gap between calls is the ski-rental problem: keeping the replica pays its time, letting it go pays
a start, and nobody knows how long the gap will be. Whoever keeps it for as long as a start costs never pays more
than twice what a clairvoyant would (Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica 3,
1988), and no fixed rule does better in the worst case. Once `ENOUGH` gaps are known, the time t is chosen that
would have cost least over them, with C what a start costs and g a gap:

    sum over gaps of  min(g, t)  +  C where g > t

What a start costs is its own time, and the waiting of whoever is held through it: a second of that is worth
`WAITING` replica-seconds, by the objective's weights of latency and cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kaon.types.objective import Objective

ENOUGH = 50
"""Idle gaps that must be known before they are gone by."""
WAITING = 60.0
"""A second that a caller waits for a start is worth a minute of a replica."""
LEAST_S, MOST_S = 60.0, 4 * 3600.0
"""Nothing is let go sooner, however cheap a start is: a stop and a start have their own cost; nor kept for longer."""
_FORGETTING = 0.99
_PER_DOUBLING = 4
_BUCKETS = math.ceil(_PER_DOUBLING * math.log2(MOST_S / LEAST_S)) + 1


@dataclass(frozen=True, slots=True)
class Gaps:
    """Idle gaps longer than `LEAST_S`, faded: how many of each length, and their summed length, seconds."""

    known: int = 0
    counts: tuple[float, ...] = (0.0,) * _BUCKETS
    lengths_s: tuple[float, ...] = (0.0,) * _BUCKETS


def learn(gaps: Gaps, gap_s: float) -> Gaps:
    """`gaps` after one more; what would not have ended a replica in any case teaches nothing."""
    if gap_s <= LEAST_S:
        return gaps
    last = _BUCKETS - 1
    bucket = min(last, max(0, math.ceil(_PER_DOUBLING * math.log2(gap_s / LEAST_S) - 1e-9) - 1))
    counts = [count * _FORGETTING for count in gaps.counts]
    lengths = [length * _FORGETTING for length in gaps.lengths_s]
    counts[bucket] += 1
    lengths[bucket] += gap_s
    return Gaps(gaps.known + 1, tuple(counts), tuple(lengths))


def recall(busy: Iterable[tuple[float, float]]) -> Gaps:
    """The gaps between spans (begin, end) in which somebody called, epoch seconds, in order of their ends."""
    gaps, until = Gaps(), math.inf
    for begin, end in busy:
        gaps = learn(gaps, begin - until)
        until = end
    return gaps


def start_cost_s(start_s: float, objective: Objective) -> float:
    """What a start of `start_s` seconds costs, in replica-seconds."""
    weights = objective.weights
    if weights.cost <= 0:
        return math.inf
    return start_s * (1 + WAITING * weights.latency / weights.cost)


def keep_s(gaps: Gaps, cost_s: float) -> float:
    """How long to keep the last replica, in seconds, when a start costs `cost_s` replica-seconds."""
    rented = min(max(cost_s, LEAST_S), MOST_S)
    if gaps.known < ENOUGH or math.isinf(cost_s):
        return rented
    # Between two bounds of buckets keeping longer only pays more, so only the bounds can be best.
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
    """The longest gap that a bucket holds; the last one's are longer still."""
    return LEAST_S * 2 ** ((bucket + 1) / _PER_DOUBLING) if bucket < _BUCKETS - 1 else math.inf
