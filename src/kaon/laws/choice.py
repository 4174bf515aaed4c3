"""The scaling law and the bounds of a deployment, from its spec and its service."""

from __future__ import annotations

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import EndpointKind, ServiceSpec

START_S = 20.0
"""How long a start is assumed to take until one was observed, seconds."""
_AT_ONCE = 16
"""Calls that an endpoint without a `concurrency` runs at once: the runtime's threads."""


def bounds(scaling: Scaling) -> Bounds:
    """The allowed numbers of replicas."""
    return Bounds(scaling.min, scaling.max, scaling.floors)


def max_batch(service: ServiceSpec) -> int:
    """The most rows in one batch of its handlers; 1 without batching."""
    return max((endpoint.batch.max_size for endpoint in service.endpoints if endpoint.batch), default=1)


def max_wait_s(service: ServiceSpec) -> float:
    """The longest time that one of its handlers holds a batch for more calls; 0 without batching."""
    return max((endpoint.batch.max_wait_s for endpoint in service.endpoints if endpoint.batch), default=0.0)


def at_once(service: ServiceSpec) -> int:
    """How many calls a replica takes at once: the smallest of its endpoints' largest batch or slots."""
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
) -> Scale:
    """The law of a deployment. `at_once`: calls that a replica runs at once (None: a batch); `start_s` is assumed until
    a start was observed."""
    return Scale(objective, max_batch, start_s=start_s, keep_alive_s=scaling.keep_alive_s, at_once=at_once)
