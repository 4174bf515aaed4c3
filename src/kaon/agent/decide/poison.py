"""Which requests crash replicas. Pure.

A replica records its calls in flight in a file that survives a crash (`kaon.types.flight`), and the driver reports
which ones were in flight when it crashed. One crash proves nothing: many calls are in flight at once. A request id that
was in flight at two crashes is refused for a while, so that a client or proxy that repeats it does not end one replica
after another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from kaon.drivers.port import ReplicaObservation
from kaon.types.flight import SLOTS
from kaon.types.names import DeploymentKey
from kaon.types.refusals import MOST

CRASHES = 2
"""A request that was in flight at so many crashes is refused."""

REFUSED_S = 600.0
"""For how long after the last crash. A single crash is forgotten after the same time."""

SUSPECTS_MOST = SLOTS
"""The most requests of one cloud that are kept."""


@dataclass(frozen=True)
class Suspect:
    """A request that was in flight at crashes, the last one at `at`."""

    crashes: int
    at: float


@dataclass(frozen=True)
class Poison:
    """The history of crashes."""

    suspects: Mapping[tuple[DeploymentKey, str], Suspect] = field(default_factory=dict)
    counted: frozenset[tuple[str, int | None]] = frozenset()
    """Crashes counted so far, as replica and process."""


def follow(
    history: Poison, observed: Mapping[str, ReplicaObservation], owners: Mapping[str, DeploymentKey], now: float
) -> Poison:
    """Count the new crashes among `observed`; `owners` has the deployment of each replica."""
    crashed = {(s.id, s.pid): s for s in observed.values() if s.blamed and s.id in owners}
    fresh = crashed.keys() - history.counted
    suspects = {key: suspect for key, suspect in history.suspects.items() if now - suspect.at < REFUSED_S}
    for end in sorted(fresh, key=str):
        for request_id in set(crashed[end].blamed):
            key = owners[end[0]], request_id
            before = suspects.get(key, Suspect(0, now))
            suspects[key] = Suspect(before.crashes + 1, now)
    if len(suspects) > SUSPECTS_MOST:
        kept = sorted(suspects.items(), key=lambda item: (item[1].crashes >= CRASHES, item[1].at), reverse=True)
        suspects = dict(kept[:SUSPECTS_MOST])
    return Poison(suspects, frozenset(crashed))


def refused(history: Poison, now: float) -> dict[DeploymentKey, tuple[str, ...]]:
    """The request ids to refuse, by deployment, at most `MOST` in all: the latest."""
    proven = [
        (suspect.at, key)
        for key, suspect in history.suspects.items()
        if suspect.crashes >= CRASHES and now - suspect.at < REFUSED_S
    ]
    found: defaultdict[DeploymentKey, list[str]] = defaultdict(list)
    for _, (deployment, request_id) in sorted(proven, reverse=True)[:MOST]:
        found[deployment].append(request_id)
    return {deployment: tuple(sorted(request_ids)) for deployment, request_ids in found.items()}
