"""What replicas with the same knobs answered, added up: over replicas, over seconds, over clouds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kaon.types.observation import Batches
from kaon.types.traffic import Side


def added(sides: Iterable[Side]) -> tuple[Side, ...]:
    """One side of all that have the same knobs, by their name."""
    by_knobs: dict[str, list[Side]] = {}
    for side in sides:
        by_knobs.setdefault(side.knobs, []).append(side)
    return tuple(_sum(knobs, by_knobs[knobs]) for knobs in sorted(by_knobs))


def over_time(sides: Iterable[Side], last: Iterable[Side]) -> tuple[Side, ...]:
    """The same; of `last`, the newest of them, is how many replicas there are."""
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
    """The sums of sums."""
    told = [batches for batches in found if batches.count]
    if len(told) == 1:
        return told[0]
    return Batches(
        count=sum([b.count for b in told]),
        rows=sum([b.rows for b in told]),
        seconds=sum([b.seconds for b in told]),
        rows_squared=sum([b.rows_squared for b in told]),
        rows_seconds=sum([b.rows_seconds for b in told]),
    )
