"""How long a replica that is not wanted any more may take to finish what it was asked before. Pure.

As long as the longest call that its callers were promised: a rollout, a lower scale or a restart breaks no call that is
within its own time limit.
"""

from __future__ import annotations

from kaon.types.service import ServiceSpec

LEAST_S = 30.0
MOST_S = 600.0
"""Also what a call without a time limit gets."""


def drain_s(given: float | None, service: ServiceSpec | None) -> float:
    """Seconds. `given` by the deployment counts; None: by the endpoints of `service`, None: nobody knows them.

    A mounted app says nothing of time limits, so it has none.
    """
    if given is not None:
        return given
    if service is None:
        return LEAST_S
    limits = [MOST_S if endpoint.timeout_s is None else endpoint.timeout_s for endpoint in service.endpoints]
    limits += [MOST_S for _ in service.mounts]
    return min(max([LEAST_S, *limits]), MOST_S)
