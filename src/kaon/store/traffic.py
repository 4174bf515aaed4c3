"""The last half hour of traffic, second by second: in memory, bounded, and refilled by the agents after a restart.

Whoever takes samples from agents (the API) and whoever decides by them (the controllers) share one ring. It is
no source of truth: an agent keeps its own half hour and sends again what is missing here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque

from kaon.types.traffic import Sample, Traffic

RING_S = 1800.0
"""How far back it goes."""

Key = tuple[str, str]
"""Workspace and deployment."""


class TrafficRing:
    """Samples by deployment, of all revisions and clouds, in order of arrival."""

    def __init__(self, span_s: float = RING_S) -> None:
        self._span_s = span_s
        self._kept: defaultdict[Key, deque[Sample]] = defaultdict(deque)
        self._counted: defaultdict[Key, int] = defaultdict(int)
        self._until: dict[str, float] = {}

    def add(self, traffic: Traffic) -> float:
        """Keep what is new of it; the end of the newest sample that is here of that cloud."""
        until = self._until.get(traffic.cloud, 0.0)
        fresh = [sample for sample in traffic.samples if sample.at_s > until]
        for sample in fresh:
            key = sample.workspace, sample.deployment
            self._kept[key].append(sample)
            self._counted[key] += 1
        until = max([until, *(sample.at_s for sample in fresh)])
        self._until[traffic.cloud] = until
        self._forget(until - self._span_s)
        return until

    def until(self, cloud: str) -> float:
        """The end of the newest sample of a cloud; 0 when there is none."""
        return self._until.get(cloud, 0.0)

    def deployments(self) -> list[Key]:
        """Those of which something is here."""
        return sorted(self._kept)

    def since(self, workspace: str, deployment: str, after_s: float) -> list[Sample]:
        """A deployment's samples that end after `after_s`, oldest first."""
        kept = sorted(self._kept.get((workspace, deployment), ()), key=lambda sample: sample.at_s)
        return kept[bisect_right(kept, after_s, key=lambda sample: sample.at_s) :]

    def news(self, workspace: str, deployment: str, after: int) -> tuple[list[Sample], int]:
        """What came, in order of arrival, since the count of samples was `after`, as far as it is kept; the count."""
        key = workspace, deployment
        count = self._counted.get(key, 0)
        kept = self._kept.get(key, deque())
        fresh = min(count - after, len(kept))
        return [kept[place] for place in range(-fresh, 0)], count

    def _forget(self, before_s: float) -> None:
        for key in list(self._kept):
            kept = self._kept[key]
            while kept and kept[0].at_s <= before_s:
                kept.popleft()
            if not kept:
                del self._kept[key]
