"""Kubernetes' horizontal pod autoscaler, on concurrency per replica.

Source: kubernetes/kubernetes, pkg/controller/podautoscaler (Apache-2.0) and the documentation of autoscaling/v2:
the rule, written anew. Every 15 s, if |m / target - 1| > 0.1: ceil(current x m / target); up by at most
max(100 %, 4) per 15 s; down to the highest recommendation of the last 300 s. It cannot reach zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.windows import Samples
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class _State:
    recommended: Samples
    chosen: int | None = None
    next_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hpa:
    """`target` calls in flight per replica."""

    target: float = 5.6
    period_s: float = 15.0
    tolerance: float = 0.1
    down_window_s: float = 300.0
    up_share: float = 1.0
    up_pods: int = 4

    def begin(self) -> _State:
        """The state before anything was observed."""
        return _State(Samples(self.down_window_s))

    def step(self, state: _State, bounds: Bounds, observed: Observation) -> tuple[_State, ScalingDecision]:
        """Acts every `period_s`; without figures nothing changes."""
        now = observed.at_s
        current = max(1, bounds.clip(observed.ready + observed.starting if state.chosen is None else state.chosen, now))
        if now < state.next_s:
            return state, ScalingDecision(bounds.clip(current, now), "between two looks")
        if observed.in_flight is None:
            return state, ScalingDecision(bounds.clip(current, now), "no figures: unchanged")
        ratio = observed.in_flight / max(1, observed.ready) / self.target
        wanted = current
        if abs(ratio - 1) > self.tolerance:
            wanted = math.ceil(max(1, observed.ready) * ratio)
        recommended = state.recommended.add(now, wanted)
        if wanted < current:
            wanted = min(current, int(recommended.highest()))
        else:
            wanted = min(wanted, current + max(math.ceil(current * self.up_share), self.up_pods))
        replicas = bounds.clip(max(1, wanted), now)
        reason = f"{ratio:.2f} of the target of {self.target:g} in flight a replica"
        return _State(recommended, replicas, now + self.period_s), ScalingDecision(replicas, reason)
