"""SkyServe's request-rate autoscaler.

Source: skypilot-org/skypilot, sky/serve/autoscalers.py (Apache-2.0): the rule, written anew. Every 20 s,
ceil(calls per second over 60 s / target); acted on when above for 300 s or below for 1,200 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.windows import Samples
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class _State:
    arrivals: Samples
    chosen: int | None = None
    ups: int = 0
    downs: int = 0
    next_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SkyServe:
    """`target` is target_qps_per_replica, calls per second."""

    target: float = 20.0
    window_s: float = 60.0
    period_s: float = 20.0
    up_s: float = 300.0
    down_s: float = 1200.0

    def begin(self) -> _State:
        """The state before anything was observed."""
        return _State(Samples(self.window_s))

    def step(self, state: _State, bounds: Bounds, observed: Observation) -> tuple[_State, ScalingDecision]:
        """Acts every `period_s`; without figures nothing changes."""
        now = observed.at_s
        chosen = bounds.clip(observed.ready + observed.starting if state.chosen is None else state.chosen, now)
        if observed.arrivals is None:
            return state, ScalingDecision(chosen, "no figures: unchanged")
        arrivals = state.arrivals.add(now, observed.arrivals)
        if now < state.next_s:
            return _State(arrivals, chosen, state.ups, state.downs, state.next_s), ScalingDecision(
                chosen, "between two looks"
            )
        rate = arrivals.total() / self.window_s
        desired = bounds.clip(math.ceil(rate / self.target), now)
        ups = state.ups + 1 if desired > chosen else 0
        downs = state.downs + 1 if desired < chosen else 0
        reason = f"{rate:.1f} calls/s, {self.target:g} a replica: {desired}"
        at_once = chosen == 0 and desired > 0
        if at_once or ups * self.period_s >= self.up_s or (downs and downs * self.period_s >= self.down_s):
            chosen, ups, downs = desired, 0, 0
        return _State(arrivals, chosen, ups, downs, now + self.period_s), ScalingDecision(chosen, reason)
