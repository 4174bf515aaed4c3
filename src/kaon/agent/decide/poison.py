"""Which requests crash replicas. Pure.

A replica notes its calls in flight where a crash leaves them (`kaon.types.flight`), and the driver tells which ones
were in flight when a replica ended by a fault of its own. One crash proves nothing: many calls are in flight at once.
A request id that was in flight at two of them is refused for a while, so that whoever repeats it, be it a client or
a proxy, does not end one replica after the other.
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
"""Crashes at which a request was in flight from which on it is refused."""

REFUSED_S = 600.0
"""For how long after the last of them; a single crash is forgotten after as long."""

SUSPECTS_MOST = SLOTS
"""Requests of one cloud that are remembered."""


@dataclass(frozen=True)
class Suspect:
    """A request that was in flight at so many crashes, the last one at `at`."""

    crashes: int
    at: float


@dataclass(frozen=True)
class Poison:
    """What is remembered of crashes."""

    suspects: Mapping[tuple[DeploymentKey, str], Suspect] = field(default_factory=dict)
    counted: frozenset[tuple[str, int | None]] = frozenset()
    """Ends that were counted, as replica and process."""


def follow(
    history: Poison, observed: Mapping[str, ReplicaObservation], owners: Mapping[str, DeploymentKey], now: float
) -> Poison:
    """Count the crashes among `observed` that were not counted yet; `owners` says whose the replicas are."""
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
