"""The last word between a scaling law and the platform: what none of them may do, whichever was chosen.

Going up is never held back, but by the bounds, and from zero: only a caller who waits wakes a deployment. Calls without
a good key are refused there and do not wait, though they are counted as arrivals. Going down waits for figures, and for
a rollout to end: it counts on every ready replica. Zero is for deployments that have served, and while nobody waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision


@dataclass(frozen=True, slots=True)
class RestraintState:
    """How a deployment is. `wanted` is how many replicas there should be now."""

    wanted: int
    informed: bool = True
    """There are figures, and they are new."""
    rolling: bool = False
    """A revision takes over from another."""
    proven: bool = True
    """Some revision has served."""
    held: int = 0
    """Callers that wait for a replica."""


def restrain(decision: ScalingDecision, standing: RestraintState, bounds: Bounds, at_s: float) -> ScalingDecision:
    """The decision as far as it may go now, with the reason where it may not."""
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
