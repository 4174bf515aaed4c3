"""Who competes: our law as it is, the peers' at their defaults and over their grids, and two that know the future."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from benchmarks.autoscale.loads import DAY_S
from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingDecision, ScalingLaw
from kaon.laws.scaling_peers import Hpa, Knative, Predictive, RayServe, SkyServe
from kaon.sim.engine import Truth
from kaon.types.objective import Objective
from kaon.types.observation import Observation

OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.5, completion=0.99)
TRUTH = Truth(a=0.02, b=0.08, max_batch=8, noise=0.1, start_s=20.0, start_p95_s=25.0)
SERVES_RPS = TRUTH.max_batch / (TRUTH.a * TRUTH.max_batch + TRUTH.b)


def ours(completion: float = OBJECTIVE.completion) -> ScalingLaw:
    """Untuned: given only the objective and the handler's largest batch."""
    return Scale(OBJECTIVE.model_copy(update={"completion": completion}), TRUTH.max_batch)


def defaults() -> dict[str, ScalingLaw]:
    """The vendors' defaults; targets by their guides for a container that takes eight calls at once."""
    return {
        "knative": Knative(target=8.0),
        "ray-serve": RayServe(),
        "hpa": Hpa(target=5.6),
        "sky-serve": SkyServe(target=0.7 * SERVES_RPS),
        "predictive": Predictive(Knative(target=8.0), season_s=DAY_S),
    }


def grids(quick: bool) -> dict[str, list[ScalingLaw]]:
    """The peers' grids: the parameters that their guides tune."""
    targets = (2.0, 3.0, 4.0, 6.0)
    downs = (0.0, 300.0) if quick else (0.0, 120.0, 900.0)
    shares = (0.5, 0.7) if quick else (0.4, 0.5, 0.6, 0.7, 0.8)
    knative = [Knative(target=t / 0.7, down_delay_s=d) for t, d in product(targets, downs)]
    return {
        "knative": list(knative),
        "ray-serve": [
            RayServe(target=t, upscale_delay_s=0.0, downscale_delay_s=d)
            for t, d in product(targets, (60.0,) if quick else (60.0, 600.0))
        ],
        "hpa": [
            Hpa(target=t, down_window_s=d) for t, d in product(targets, (60.0,) if quick else (30.0, 300.0, 900.0))
        ],
        "sky-serve": [
            SkyServe(target=share * SERVES_RPS, up_s=20.0, down_s=d)
            for share, d in product(shares, (60.0,) if quick else (60.0, 1200.0))
        ],
        "predictive": [Predictive(k, season_s=DAY_S) for k in knative[:: 4 if quick else 2]],
    }


@dataclass(frozen=True)
class Static:
    """Always the same number: the best of these in hindsight is the bar for holding still."""

    replicas: int

    def begin(self) -> None:
        return None

    def step(self, state: None, bounds: Bounds, seen: Observation) -> tuple[None, ScalingDecision]:
        return None, ScalingDecision(bounds.clip(self.replicas, seen.at_s), "static")


@dataclass(frozen=True)
class Clairvoyant:
    """Knows every second's calls beforehand: orders what the next `ahead_s` will need, no sooner than it must."""

    wanted: Sequence[int] = field(repr=False)

    def begin(self) -> None:
        return None

    def step(self, state: None, bounds: Bounds, seen: Observation) -> tuple[None, ScalingDecision]:
        at = min(int(seen.at_s), len(self.wanted) - 1)
        return None, ScalingDecision(bounds.clip(self.wanted[at], seen.at_s), "known beforehand")


def clairvoyants(per_second: Sequence[int], ahead_s: int = 26) -> Iterator[Clairvoyant]:
    """For two margins: what 2 s of calls need at full batches, the most of it from now to `ahead_s` later."""
    demand = [max(sum(per_second[max(0, i - 1) : i + 1]) / 2, 0) / SERVES_RPS for i in range(len(per_second))]
    peak = [max(demand[i : i + ahead_s]) for i in range(len(demand))]
    for margin in (0.0, 0.5):
        yield Clairvoyant([math.ceil(p + margin * math.sqrt(p)) for p in peak])
