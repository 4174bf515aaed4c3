"""A predictive law in the manner of MArk: Knative's rule, fed with the rate expected when a start is done.

Source: Zhang, Yu, Wang, Yan, "MArk: Exploiting Cloud Services for Cost-Effective, SLO-Aware Machine Learning
Inference Serving", USENIX ATC 2019: provision for the predicted rate at now + start-up time. The predictor is
the usual seasonal-naive one (the same moment one season ago) plus a first-order autoregression of its
residual; before a season has passed, the present rate stands for the season. Concurrency follows from the
rate by Little's law with the present ratio of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.scaling_peers.knative import Knative
from kaon.laws.windows import Samples
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class _State:
    inner: object
    arrivals: Samples
    season: tuple[tuple[int, float], ...] = ()
    residual: float = 0.0
    covariance: float = 0.0
    variance: float = 1e-9


@dataclass(frozen=True, slots=True)
class Predictive:
    """`season_s` is the length of the pattern that repeats; the rest as in `Knative`."""

    rule: Knative = field(default_factory=Knative)
    season_s: float = 3600.0
    slot_s: float = 25.0
    start_s: float = 20.0
    window_s: float = 20.0

    def begin(self) -> _State:
        """The state before anything was observed."""
        return _State(self.rule.begin(), Samples(self.window_s))

    def step(self, state: _State, bounds: Bounds, observed: Observation) -> tuple[_State, ScalingDecision]:
        """Knative's step with the concurrency of the predicted rate; without figures, Knative's own."""
        if observed.arrivals is None or observed.in_flight is None:
            inner, decision = self.rule.step(state.inner, bounds, observed)  # type: ignore[arg-type]
            return _State(inner, state.arrivals, state.season, state.residual, state.covariance), decision
        arrivals = state.arrivals.add(observed.at_s, observed.arrivals)
        rate = arrivals.total() / self.window_s
        past = dict(state.season)
        slots = round(self.season_s / self.slot_s)
        slot = int(observed.at_s / self.slot_s)
        residual = rate - past.get(slot - slots, rate)
        covariance = 0.99 * state.covariance + residual * state.residual
        variance = 0.99 * state.variance + state.residual**2
        phi = min(max(covariance / max(variance, 1e-9), 0.0), 1.0)
        later = int((observed.at_s + self.start_s) / self.slot_s)
        predicted = max(0.0, past.get(later - slots, rate) + phi * residual)
        scale = predicted / rate if rate > 0 else 1.0
        fed = observed.model_copy(update={"in_flight": round(observed.in_flight * max(scale, 0.0))})
        inner, decision = self.rule.step(state.inner, bounds, fed)  # type: ignore[arg-type]
        season = state.season
        if not season or season[-1][0] != slot:
            season = (*season[-slots - 2 :], (slot, rate))
        reason = f"{predicted:.1f} calls/s expected in {self.start_s:g} s; {decision.reason}"
        state = _State(inner, arrivals, season, residual, covariance, variance)
        return state, ScalingDecision(decision.replicas, reason)
