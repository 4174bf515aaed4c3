"""Sums of sides, by their knobs: over replicas, over seconds, over clouds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kaon.types.observation import Batches
from kaon.types.traffic import Side


def added(sides: Iterable[Side]) -> tuple[Side, ...]:
    """One side for each version of knobs."""
    by_knobs: dict[str, list[Side]] = {}
    for side in sides:
        by_knobs.setdefault(side.knobs, []).append(side)
    return tuple(_sum(knobs, by_knobs[knobs]) for knobs in sorted(by_knobs))


def over_time(sides: Iterable[Side], last: Iterable[Side]) -> tuple[Side, ...]:
    """The same over time; the number of replicas is that of `last`, the newest sides."""
    now: Counter[str] = Counter()
    for side in last:
        now[side.knobs] += side.replicas
    return tuple(side.model_copy(update={"replicas": now[side.knobs]}) for side in added(sides))


def _sum(knobs: str, sides: Sequence[Side]) -> Side:
    latency: Counter[int] = Counter()
    for side in sides:
        latency.update(side.latency)
    return Side(
        knobs=knobs,
        replicas=sum(side.replicas for side in sides),
        answered=sum(side.answered for side in sides),
        failed=sum(side.failed for side in sides),
        latency=dict(latency),
        busy_s=sum(side.busy_s for side in sides),
        ready_s=sum(side.ready_s for side in sides),
        batches=added_batches(side.batches for side in sides),
        ended=sum(side.ended for side in sides),
    )


def added_batches(found: Iterable[Batches]) -> Batches:
    """The sum of all."""
    summed = [batches for batches in found if batches.count]
    if len(summed) == 1:
        return summed[0]
    return Batches(
        count=sum([b.count for b in summed]),
        rows=sum([b.rows for b in summed]),
        seconds=sum([b.seconds for b in summed]),
        rows_squared=sum([b.rows_squared for b in summed]),
        rows_seconds=sum([b.rows_seconds for b in summed]),
    )
