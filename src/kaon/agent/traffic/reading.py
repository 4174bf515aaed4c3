"""What the agent reads at one moment of edge and replicas: running totals and gauges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kaon.edge.counts import EdgeCounts
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import PlannedKnobs
from kaon.types.names import DeploymentKey, RevisionKey
from kaon.types.replica import ReplicaStatus
from kaon.types.traffic import ColdStart

LONGEST_SPAN_S = 3.0
"""The longest time between two readings that make a sample; after a longer one counting starts anew."""


@dataclass(frozen=True)
class TrafficReading:
    """All that is read at one moment. The edge is read just before the replicas."""

    at_s: float
    """Epoch seconds."""
    now: float
    """Seconds of the monotonic clock."""
    edge: EdgeCounts | None
    """None: the edge did not answer."""
    figures: Mapping[str, ReplicaFigures] = field(default_factory=dict)
    """By replica; those that did not answer are left out."""
    replicas: tuple[ReplicaStatus, ...] = ()
    served: frozenset[RevisionKey] = frozenset()
    """Revisions that a route leads to; revision 0 of a deployment that has none."""
    held: Mapping[DeploymentKey, int] = field(default_factory=dict)
    """Callers that wait at the edge for a replica."""
    turned_away: Mapping[DeploymentKey, Mapping[str, int]] = field(default_factory=dict)
    """What the activator answered to requests that are no calls, by class: running totals."""
    starts: Mapping[str, ColdStart] = field(default_factory=dict)
    """Starts that ended since the reading before, by replica."""
    trials: Mapping[DeploymentKey, PlannedKnobs] = field(default_factory=dict)
    """Deployments of which some or all replicas try other knobs; see `kaon.agent.traffic.sides`."""


def gained(before: float, after: float) -> int:
    """What a running total gained; a smaller one has restarted from zero."""
    return int(after - before if after >= before else after)
