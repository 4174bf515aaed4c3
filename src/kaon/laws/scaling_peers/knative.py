"""Knative's pod autoscaler (KPA), by concurrency.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go and config/core/configmaps/autoscaler.yaml
(Apache-2.0): the rule, written anew. With S and P the mean concurrency over 60 s and 6 s, r = max(1, ready)
and tv = 0.7 x target: ds = ceil(S / tv), dp = ceil(P / tv), both held within [floor(r / 2), ceil(1000 r)].
Panic begins when dp / r >= 2 before it is held, ends 60 s after the last such moment, and never lowers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.windows import Samples
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class _State:
    concurrency: Samples
    delayed: Samples
    panic_until_s: float | None = None
    panic_peak: int = 0
    idle_since_s: float | None = None
    chosen: int = 0


@dataclass(frozen=True, slots=True)
class Knative:
    """`target` is the container's concurrency; seconds as in Knative's configuration."""

    target: float = 8.0
    utilization: float = 0.7
    stable_s: float = 60.0
    panic_share: float = 0.1
    panic_threshold: float = 2.0
    max_up: float = 1000.0
    max_down: float = 2.0
    down_delay_s: float = 0.0
    grace_s: float = 30.0

    def begin(self) -> _State:
        """The state before anything was observed."""
        return _State(Samples(self.stable_s), Samples(max(self.down_delay_s, 1e-9)))

    def step(self, state: _State, bounds: Bounds, observed: Observation) -> tuple[_State, ScalingDecision]:
        """One tick; Knative's is 2 s. Without a figure nothing changes."""
        if observed.in_flight is None:
            replicas = bounds.clip(state.chosen or observed.ready, observed.at_s)
            return state, ScalingDecision(replicas, "no figures: unchanged")
        concurrency = state.concurrency.add(observed.at_s, observed.in_flight)
        ready = max(1, observed.ready)
        per_replica = self.utilization * self.target
        stable = math.ceil(concurrency.mean() / per_replica)
        short = math.ceil(concurrency.mean(self.stable_s * self.panic_share) / per_replica)
        now = observed.at_s
        panics = short / ready >= self.panic_threshold
        until, peak = state.panic_until_s, state.panic_peak
        if panics:
            peak = peak if until is not None else ready
            until = now + self.stable_s
        elif until is not None and now >= until:
            until, peak = None, 0
        low, high = math.floor(ready / self.max_down), math.ceil(self.max_up * ready)
        desired = min(max(stable, low), high)
        reason = f"{concurrency.mean():.1f} in flight over {self.stable_s:g} s, {per_replica:g} a replica"
        if until is not None:
            peak = max(peak, desired, min(max(short, low), high))
            desired, reason = peak, f"panic: {concurrency.mean(self.stable_s * self.panic_share):.1f} in flight"
        delayed = state.delayed.add(now, desired)
        if self.down_delay_s > 0:
            desired = max(desired, int(delayed.highest()))
        idle = None if desired > 0 else (state.idle_since_s if state.idle_since_s is not None else now)
        if idle is not None and now - idle < self.grace_s and observed.ready > 0:
            desired, reason = 1, "nothing in flight: the last replica has its grace"
        replicas = bounds.clip(desired, now)
        return _State(concurrency, delayed, until, peak, idle, replicas), ScalingDecision(replicas, reason)
