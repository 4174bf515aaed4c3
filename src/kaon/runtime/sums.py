"""All that a replica counts as running sums: what the agent asks for every second, and takes the difference of.

It is made when somebody asks. What a call adds to it on its way is two numbers of its lane (`Lane.released` and the
edges of its slots), so that asking often is what costs, not answering calls.
"""

from __future__ import annotations

import time

from kaon.runtime.batcher import BatchLane
from kaon.runtime.memory import Memory
from kaon.runtime.serving import Serving
from kaon.types.figures import ReplicaFigures
from kaon.types.observation import Batches

_APART = (429, 503)
"""Those with which a replica refuses."""


class Sums:
    """Reads a serving on `cpus` processors."""

    def __init__(self, serving: Serving, cpus: float) -> None:
        self._serving = serving
        self._cpus = max(cpus, 0.01)
        self._began_at = time.time()
        self._memory = Memory()

    def read(self) -> ReplicaFigures:
        """The sums up to now."""
        now, lanes = time.monotonic(), self._serving.lanes
        plain = [lane for lane in lanes if not isinstance(lane, BatchLane)]
        return ReplicaFigures(
            began_at=self._began_at,
            at_s=now,
            codes=self._codes(),
            in_flight=self._serving.in_flight,
            queued=self._serving.queued,
            queue_s=sum(lane.figures.queue_seconds.total for lane in lanes),
            began=sum(lane.began for lane in lanes),
            busy_s=sum(lane.busy_s(now) / lane.slots for lane in lanes),
            cpu_s=time.process_time() / self._cpus,
            calls=sum(lane.released for lane in plain),
            calls_s=sum(lane.busy_s(now) / lane.slots for lane in plain),
            memory_bytes=self._memory.read(now),
            batches=self._batches([lane for lane in lanes if isinstance(lane, BatchLane)]),
        )

    def _codes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for figures in (self._serving.others, *(lane.figures for lane in self._serving.lanes)):
            for code, count in figures.codes.items():
                name = class_of(code)
                found[name] = found.get(name, 0) + count
        return found

    def _batches(self, lanes: list[BatchLane]) -> Batches:
        figures = [(lane.figures, lane.slots) for lane in lanes]
        return Batches(
            count=sum(f.batch_rows.count for f, _ in figures),
            rows=sum(f.batch_rows.total for f, _ in figures),
            seconds=sum(f.batch_seconds.total / slots for f, slots in figures),
            rows_squared=sum(f.rows_squared for f, _ in figures),
            rows_seconds=sum(f.rows_seconds / slots for f, slots in figures),
        )


def class_of(code: int) -> str:
    """'2xx' to '5xx', or '429' or '503'. A connection that became a websocket (101) went well."""
    return str(code) if code in _APART else f"{max(code // 100, 2)}xx"
