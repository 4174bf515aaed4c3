"""What starts take, part by part, from the phases that a replica goes through. Pure.

A start begins when the replica is first reported, or leaves a phase in which it ended; time in back-off is not part of
it. Of a replica that was ready when it was first reported no start is measured, as its beginning is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import ColdStart

_INSTALL, _START, _LOAD = range(3)
_PARTS = {
    Phase.BUILDING: _INSTALL,
    Phase.INSTALLING: _INSTALL,
    Phase.STARTING: _START,
    Phase.LOADING: _LOAD,
}


@dataclass(frozen=True, slots=True)
class ReplicaStart:
    """A start in progress: its current part, since when, and the duration of each part so far."""

    part: int
    since: float
    took_s: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def entered(self, part: int, at: float) -> ReplicaStart:
        """The start after `part` began at `at`: the time since the previous change is added to the previous part."""
        took = list(self.took_s)
        took[self.part] += max(0.0, at - self.since)
        return ReplicaStart(part, at, (took[0], took[1], took[2]))


Starts = Mapping[str, ReplicaStart | None]
"""Replica -> its start; None: it is up, or down."""


def follow(starts: Starts, statuses: Iterable[ReplicaStatus]) -> tuple[Starts, dict[str, ColdStart]]:
    """The starts in progress, and the durations of those that have ended since the last call."""
    after: dict[str, ReplicaStart | None] = {}
    done: dict[str, ColdStart] = {}
    for status in statuses:
        start, part = starts.get(status.id), _PARTS.get(status.phase)
        if part is not None:
            if status.id in starts and start is None and status.phase is Phase.STARTING and status.reason:
                after[status.id] = None  # it was ready, and does not answer for a moment
            else:
                after[status.id] = _continued(start, part, status.since)
            continue
        after[status.id] = None
        if start is not None and status.phase is Phase.READY:
            install_s, start_s, load_s = start.entered(_LOAD, status.since).took_s
            done[status.id] = ColdStart(replica=status.id, install_s=install_s, start_s=start_s, load_s=load_s)
    return after, done


def _continued(start: ReplicaStart | None, part: int, since: float) -> ReplicaStart:
    if start is None:
        return ReplicaStart(part, since)
    return start if start.part == part else start.entered(part, since)
