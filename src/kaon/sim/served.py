"""A deployment's calls in the simulated platform, served by the event simulator with batches, queues and noise.

The platform decides how many replicas are ready and what knobs they have. All replicas have the same knobs here: while
some try others (a canary), the most common ones are used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kaon.sim import memory
from kaon.sim.engine import NS, Truth, deployment
from kaon.types.knobs import Knobs
from kaon.types.objective import Objective
from kaon.types.observation import Observation
from kaon.types.traffic import LATENCY_BOUNDS_S, LatencyCounts


class Served:
    """Calls that arrive at `arrivals_ns`, from the platform's first second on; `truth` has the cost of batches."""

    def __init__(self, truth: Truth, objective: Objective, arrivals_ns: Any, seed: int = 0) -> None:
        self._largest = truth.max_batch
        self._world = deployment(replace(truth, starts_s=(0.0,)), objective, arrivals_ns, seed=seed)
        self._histogram: list[int] = []

    def second(self, until_s: float, knobs: Iterable[Knobs]) -> tuple[Observation, LatencyCounts]:
        """Serve calls until `until_s`, in seconds of the platform, by ready replicas with these knobs."""
        rows = Counter(knob.max_batch or self._largest for knob in knobs)
        self._world.limit(rows.most_common(1)[0][0] if rows else self._largest)
        self._world.scale(rows.total())
        self._world.advance(until_s)
        return self._world.observe(), self._latencies()

    def _latencies(self) -> LatencyCounts:
        world = self._world.world
        now = [int(count) for count in world.scores[: memory.BUCKETS]]
        was, self._histogram = self._histogram or [0] * len(now), now
        width_s = int(world.counts[memory.BUCKET]) / NS
        found: LatencyCounts = {}
        for bucket, (before, after) in enumerate(zip(was, now, strict=True)):
            if after > before:
                place = bisect_left(LATENCY_BOUNDS_S, (bucket + 0.5) * width_s)
                found[place] = found.get(place, 0) + after - before
        return found
