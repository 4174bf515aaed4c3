"""A replica's running sums, which the agent reads every second to take differences.

Computed when read: a call only updates two numbers of its lane (`Lane.released` and the integral of busy time).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from kaon.runtime.batcher import BatchLane
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.memory import MemoryMeter
from kaon.runtime.serving import Serving
from kaon.types.figures import ReplicaFigures
from kaon.types.observation import Batches

_REFUSED = (429, 503)
"""Statuses of refusals, counted by themselves."""


class ReplicaSums:
    """Reads a serving on `cpus` processors."""

    def __init__(self, serving: Serving, cpus: float) -> None:
        self._serving = serving
        self._cpus = max(cpus, 0.01)
        self._began_at = time.time()
        self._memory = MemoryMeter()

    def read(self) -> ReplicaFigures:
        """The sums up to now."""
        now, lanes = time.monotonic(), self._serving.lanes
        plain = [lane for lane in lanes if not isinstance(lane, BatchLane)]
        return ReplicaFigures(
            began_at=self._began_at,
            at_s=now,
            codes=_by_class(self._serving.figures),
            not_calls=_by_class([self._serving.not_calls]),
            knobs=self._serving.knobs,
            in_flight=self._serving.in_flight,
            queued=self._serving.queued,
            queue_s=sum(lane.figures.queue_seconds.total for lane in lanes),
            began=sum(lane.began for lane in lanes),
            busy_s=sum(lane.work_s(now) for lane in lanes),
            cpu_s=time.process_time() / self._cpus,
            calls=sum(lane.released for lane in plain),
            calls_s=sum(lane.work_s(now) for lane in plain),
            latency=self._latency(),
            memory_bytes=self._memory.read(now),
            batches=_batches([lane.figures for lane in lanes if isinstance(lane, BatchLane)]),
        )

    def _latency(self) -> dict[int, int]:
        counts = map(sum, zip(*(figures.latency.counts for figures in self._serving.figures), strict=True))
        return {bucket: count for bucket, count in enumerate(counts) if count}


def _by_class(found: Iterable[EndpointFigures]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for figures in found:
        for code, count in figures.codes.items():
            counts[class_of(code)] += count
    return dict(counts)


def _batches(found: Sequence[EndpointFigures]) -> Batches:
    return Batches(
        count=sum(figures.batch_rows.count for figures in found),
        rows=sum(figures.batch_rows.total for figures in found),
        seconds=sum(figures.batch_work_s for figures in found),
        rows_squared=sum(figures.rows_squared for figures in found),
        rows_seconds=sum(figures.rows_work_s for figures in found),
        seconds_squared=sum(figures.squared_work for figures in found),
    )


def class_of(code: int) -> str:
    """'2xx' to '5xx', or '429' or '503'. 101, a websocket, counts as 2xx."""
    return str(code) if code in _REFUSED else f"{max(code // 100, 2)}xx"
