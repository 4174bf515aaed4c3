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


def restrain(decision: ScalingDecision, state: RestraintState, bounds: Bounds, at_s: float) -> ScalingDecision:
    """The decision within these limits; where they change it, with the reason."""
    replicas, reason = decision.replicas, decision.reason
    if replicas < state.wanted and not state.informed:
        replicas, reason = state.wanted, "no figures: unchanged"
    elif replicas < state.wanted and state.rolling:
        replicas, reason = state.wanted, f"not scaled down during a rollout; {reason}"
    if replicas == 0 and state.held:
        callers = "a caller waits" if state.held == 1 else f"{state.held} callers wait"
        replicas, reason = 1, f"{callers} for a replica"
    elif replicas == 0 and not state.proven:
        replicas, reason = 1, "has not served yet: one replica must become ready first"
    elif state.wanted == 0 and state.proven and not state.held:
        replicas, reason = 0, "no caller waits for a replica"
    return ScalingDecision(bounds.clip(replicas, at_s), reason)
