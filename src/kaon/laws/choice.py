"""From what a deployment's spec says of scaling to the law that decides, and its bounds."""

from __future__ import annotations

from kaon.laws import scaling_peers
from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.types.deployment import Scaling
from kaon.types.deployment import ScalingLawName as Named
from kaon.types.objective import Objective
from kaon.types.service import EndpointKind, ServiceSpec

START_S = 20.0
"""What a start takes, for a law that must be told, while nobody knows."""
_BUSY_SHARE = 0.7
"""The share of what a replica can do that the guides of others aim at."""
_UNKNOWN_RPS = 10.0
"""Calls per second that a replica serves, for a law that must be told, while nobody knows."""
_AT_ONCE = 16
"""Calls that an endpoint which says nothing runs beside each other: the runtime's threads."""


def bounds(scaling: Scaling) -> Bounds:
    """Between how many replicas a law may choose."""
    return Bounds(scaling.min, scaling.max, scaling.floors)


def max_batch(service: ServiceSpec) -> int:
    """The most rows in one batch of its handlers; 1 without batching."""
    return max((endpoint.batch.max_size for endpoint in service.endpoints if endpoint.batch), default=1)


def max_wait_s(service: ServiceSpec) -> float:
    """The longest that one of its handlers lets a batch wait for company; 0 without batching."""
    return max((endpoint.batch.max_wait_s for endpoint in service.endpoints if endpoint.batch), default=0.0)


def at_once(service: ServiceSpec) -> int:
    """How many calls a replica takes at once, which others call a container's concurrency: the smallest of its
    endpoints' largest batch or slots."""
    sizes = [e.batch.max_size if e.batch else e.concurrency or _AT_ONCE for e in service.endpoints]
    return min(sizes, default=_AT_ONCE)


def slots(service: ServiceSpec) -> int:
    """The most calls, or batches, that one of its endpoints works on at once; streams have no such limit."""
    calls = [e for e in service.endpoints if e.kind is EndpointKind.CALL]
    return max((e.concurrency or (1 if e.batch else _AT_ONCE) for e in calls), default=1)


def law(
    scaling: Scaling,
    objective: Objective,
    max_batch: int,
    *,
    at_once: int | None = None,
    start_s: float = START_S,
    serves_rps: float = _UNKNOWN_RPS,
) -> ScalingLaw:
    """The law that `scaling` names. The laws of others get their vendors' defaults, and as targets what their guides
    say for a container that takes `at_once` calls at once (None: a batch), or serves `serves_rps` calls a second."""
    concurrency = float(max_batch if at_once is None else at_once)
    match scaling.law:
        case Named.KAON:
            return Scale(objective, max_batch, start_s=start_s, keep_alive_s=scaling.keep_alive_s, at_once=at_once)
        case Named.KNATIVE:
            return scaling_peers.Knative(target=concurrency)
        case Named.RAY_SERVE:
            return scaling_peers.RayServe()
        case Named.HPA:
            return scaling_peers.Hpa(target=_BUSY_SHARE * concurrency)
        case Named.SKY_SERVE:
            return scaling_peers.SkyServe(target=_BUSY_SHARE * serves_rps)
        case Named.PREDICTIVE:
            return scaling_peers.Predictive(
                scaling_peers.Knative(target=concurrency), season_s=86_400.0, start_s=start_s
            )
