"""How long a replica that is to stop may take to finish its calls. Pure.

As long as the longest allowed call: a rollout, a lower scale or a restart breaks no call that is within its own time
limit.
"""

from __future__ import annotations

from kaon.types.service import ServiceSpec

LEAST_S = 30.0
MOST_S = 600.0
"""Also for calls without a time limit."""


def drain_s(given: float | None, service: ServiceSpec | None) -> float:
    """Seconds: those `given` by the deployment, else by the endpoints of `service`; None: the service is unknown.

    A mounted app declares no time limits, so it counts as without one.
    """
    if given is not None:
        return given
    if service is None:
        return LEAST_S
    limits = [MOST_S if endpoint.timeout_s is None else endpoint.timeout_s for endpoint in service.endpoints]
    limits += [MOST_S for _ in service.mounts]
    return min(max([LEAST_S, *limits]), MOST_S)
