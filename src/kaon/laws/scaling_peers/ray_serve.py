"""Ray Serve's default autoscaling policy.

Source: ray-project/ray, python/ray/serve/autoscaling_policy.py and config.py (Apache-2.0): the rule, written
anew. Desired = ceil(ongoing calls over the look-back / target); it is acted on when it lay on the same side
of the present number for `upscale_delay_s` or `downscale_delay_s`; from zero at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.windows import Samples
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class _State:
    ongoing: Samples
    chosen: int | None = None
    direction: int = 0
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RayServe:
    """`target` is target_ongoing_requests; seconds as in Ray Serve's configuration."""

    target: float = 2.0
    look_back_s: float = 30.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0

    def begin(self) -> _State:
        """The state before anything was observed."""
        return _State(Samples(self.look_back_s))

    def step(self, state: _State, bounds: Bounds, observed: Observation) -> tuple[_State, ScalingDecision]:
        """One look at the figures; without any, nothing changes."""
        now = observed.at_s
        chosen = bounds.clip(observed.ready + observed.starting if state.chosen is None else state.chosen, now)
        if observed.in_flight is None:
            return state, ScalingDecision(chosen, "no figures: unchanged")
        ongoing = state.ongoing.add(now, observed.in_flight)
        mean = ongoing.mean()
        desired = bounds.clip(math.ceil(mean / self.target), now)
        direction = (desired > chosen) - (desired < chosen)
        since = state.since_s if direction == state.direction else now
        wait_s = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        reason = f"{mean:.1f} ongoing, {self.target:g} a replica: {desired}"
        if direction and (chosen == 0 or now - since >= wait_s):
            return _State(ongoing, desired, 0, now), ScalingDecision(desired, reason)
        if direction:
            reason += f", not for {wait_s:g} s yet"
        return _State(ongoing, chosen, direction, since), ScalingDecision(chosen, reason)
