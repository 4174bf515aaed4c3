"""Limits on what a scaling law may do, applied to each of its decisions.

Going up is limited by the bounds alone, except from zero: only a waiting caller wakes a deployment (calls without a
valid key are counted as arrivals, but are refused and do not wait). Going down needs recent figures, and waits for a
rollout to end, which needs every ready replica. Zero needs a deployment that has served before, and no waiting caller.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision


@dataclass(frozen=True, slots=True)
class RestraintState:
    """The state of a deployment. `wanted` is the number of replicas that was decided before."""

    wanted: int
    informed: bool = True
    """Whether there are recent figures."""
    rolling: bool = False
    """Whether one revision takes over from another."""
    proven: bool = True
    """Whether some revision has served."""
    held: int = 0
    """Callers that wait for a replica."""


def restrain(decision: ScalingDecision, standing: RestraintState, bounds: Bounds, at_s: float) -> ScalingDecision:
    """The decision within these limits; where they change it, with the reason."""
    replicas, reason = decision.replicas, decision.reason
    if replicas < standing.wanted and not standing.informed:
        replicas, reason = standing.wanted, "no figures: unchanged"
    elif replicas < standing.wanted and standing.rolling:
        replicas, reason = standing.wanted, f"not scaled down during a rollout; {reason}"
    if replicas == 0 and standing.held:
        callers = "a caller waits" if standing.held == 1 else f"{standing.held} callers wait"
        replicas, reason = 1, f"{callers} for a replica"
    elif replicas == 0 and not standing.proven:
        replicas, reason = 1, "has not served yet: one replica must become ready first"
    elif standing.wanted == 0 and standing.proven and not standing.held:
        replicas, reason = 0, "no caller waits for a replica"
    return ScalingDecision(bounds.clip(replicas, at_s), reason)
