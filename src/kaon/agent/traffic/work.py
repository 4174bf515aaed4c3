"""What replicas did between two readings. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from kaon.agent.traffic.reading import LONGEST_SPAN_S, TrafficReading
from kaon.types.figures import ReplicaFigures
from kaon.types.names import RevisionKey
from kaon.types.observation import Batches
from kaon.types.replica import Phase

_WORKING = frozenset({Phase.READY, Phase.DRAINING})


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What a replica did between two readings, and how many calls wait in it."""

    queued: int
    queue_s: float
    began: int
    busy_s: float
    refused: int
    """Calls answered with 503."""
    not_calls: Mapping[str, int]
    batches: Batches


def works(before: TrafficReading, now: TrafficReading) -> dict[RevisionKey, list[WorkDone | None]]:
    """What each ready or draining replica did; None where that is unknown."""
    found: defaultdict[RevisionKey, list[WorkDone | None]] = defaultdict(list)
    for replica in now.replicas:
        if replica.phase in _WORKING:
            key = (replica.workspace, replica.deployment, replica.revision)
            after = now.figures.get(replica.id)
            done = None if after is None else work(before.figures.get(replica.id), after, now.now - before.now)
            found[key].append(done)
    return found


def work(before: ReplicaFigures | None, after: ReplicaFigures, span_s: float) -> WorkDone | None:
    """What a replica did between two readings; None when they are too far apart.

    The work of a replica that was not read before, or is a new process, is all within `span_s`; the processor time of
    its start does not count. A replica is as busy as its slots, or as its processors if these are busier: a handler
    that never waits leaves most of a thousand slots free.
    """
    is_new = before is None or before.began_at != after.began_at
    start = ReplicaFigures(began_at=after.began_at, at_s=after.at_s - span_s, cpu_s=after.cpu_s) if is_new else before
    assert start is not None
    long_s = after.at_s - start.at_s
    if not 0 < long_s <= LONGEST_SPAN_S:
        return None
    slots_s, cpu_s = after.busy_s - start.busy_s, after.cpu_s - start.cpu_s
    plain, plain_s = after.calls - start.calls, after.calls_s - start.calls_s
    # Processor time beyond that of the batches belongs to the other calls, if there were any.
    plain_s = max(plain_s, min(cpu_s, long_s) - (slots_s - plain_s)) if plain else 0.0
    return WorkDone(
        queued=after.queued,
        queue_s=max(0.0, after.queue_s - start.queue_s),
        began=max(0, after.began - start.began),
        busy_s=min(max(slots_s, cpu_s, 0.0), long_s),
        refused=max(0, after.codes.get("503", 0) - start.codes.get("503", 0)),
        not_calls={code: max(0, count - start.not_calls.get(code, 0)) for code, count in after.not_calls.items()},
        batches=_more(start.batches, after.batches, max(0, plain), max(0.0, plain_s)),
    )


def _more(start: Batches, now: Batches, calls: int, seconds: float) -> Batches:
    """The batches since, with calls without batching as batches of one row.

    Squares of single calls are not summed: with any of them the variance is unknown, and 0.
    """
    return Batches(
        count=max(0, now.count - start.count) + calls,
        rows=max(0.0, now.rows - start.rows) + calls,
        seconds=max(0.0, now.seconds - start.seconds) + seconds,
        rows_squared=max(0.0, now.rows_squared - start.rows_squared) + calls,
        rows_seconds=max(0.0, now.rows_seconds - start.rows_seconds) + seconds,
        seconds_squared=0.0 if calls else max(0.0, now.seconds_squared - start.seconds_squared),
    )
