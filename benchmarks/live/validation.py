"""The simulator beside the real platform: the same calls, the same service, the same law."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.live.apps.sleeper import A_S, B_S, MAX_BATCH, OBJECTIVE
from benchmarks.live.arms import LET_GO_S, LOAD_S, MOST, SECONDS, TIMES, WARM_S, Arm
from benchmarks.live.loads import Load
from benchmarks.live.quickened import LawName, NamedScaling, quick
from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.scaling import ScalingLaw as Rule
from kaon.laws.scaling_peers import Knative
from kaon.sim.engine import NS, Truth
from kaon.sim.run import SimulationSetting, run
from kaon.types.observation import Observation

OWN_START_S = 0.6
"""The time of a start beyond loading: the process, its imports, the edge's check."""
STALE_S = 1.5
"""The age of figures when a law gets them: counted every second, read every half second."""
TICK_S = 2.0 / TIMES
SEED = 1


LEAD_S = 10.0
"""Before the calls, so that the first replicas are ready when they come."""


@dataclass(frozen=True, slots=True)
class Held:
    """A law that decides from `until_s` on; until then it only observes, with `replicas`."""

    law: Rule
    replicas: int
    until_s: float = math.inf

    def begin(self) -> Any:
        return self.law.begin()

    def step(self, state: Any, bounds: Bounds, seen: Observation) -> tuple[Any, ScalingDecision]:
        if seen.at_s < LEAD_S:
            return state, ScalingDecision(self.replicas, "no calls yet")
        state, decision = self.law.step(state, bounds, seen)
        return state, decision if seen.at_s >= self.until_s else ScalingDecision(self.replicas, "it looks")


@dataclass(frozen=True)
class Simulated:
    """The same figures as a live run's."""

    attainment: float
    p50_s: float
    p90_s: float
    p99_s: float
    replica_seconds: float
    busy: float


def simulated(law: Rule, load: Load, first_replicas: int) -> Simulated:
    """The simulator's result of a law on a load. A caller hangs up at its deadline, so no latency exceeds it."""
    start_s = LOAD_S + OWN_START_S
    setting = SimulationSetting(
        truth=Truth(a=A_S, b=B_S, max_batch=MAX_BATCH, noise=0.01, start_s=start_s, start_p95_s=1.1 * start_s),
        objective=OBJECTIVE,
        bounds=Bounds(1, MOST),
        first_replicas=first_replicas,
        tick_s=TICK_S,
        stale_s=STALE_S,
        scored_from_s=LEAD_S + WARM_S,
        window_s=5.0,
    )
    outcome = run(law, setting, load.arrivals_ns() + round(LEAD_S * NS), SEED)
    whole, most_s = outcome.whole, OBJECTIVE.patience_s
    return Simulated(
        attainment=outcome.attainment,
        p50_s=min(outcome.latency_p50_s, most_s),
        p90_s=min(outcome.latency_p90_s, most_s),
        p99_s=min(outcome.latency_p99_s, most_s),
        replica_seconds=outcome.replica_seconds,
        busy=whole.busy_s / max(whole.ready_s, 1e-9),
    )


def of_law(law: LawName, load: Load, first_replicas: int) -> Simulated:
    """A law as the platform runs it."""
    rule = quick(TIMES, NamedScaling(min=1, max=MOST, by=law), OBJECTIVE, MAX_BATCH)
    return simulated(Held(rule, first_replicas, LEAD_S + LET_GO_S), load, first_replicas)


def of_fixed(replicas: int, load: Load) -> Simulated:
    """A fixed number of replicas."""
    return simulated(Held(Knative(), replicas), load, replicas)


def compared(live: Arm, simulated: Simulated) -> dict[str, Any]:
    """Side by side, and what the simulator's median is off by, relative to the live one."""
    return {
        "live": {name: getattr(live, name) for name in asdict(simulated) if hasattr(live, name)},
        "simulated": asdict(simulated),
        "p50_relative_error": abs(simulated.p50_s / live.p50_s - 1) if live.p50_s else 1.0,
        "replica_seconds_ratio": simulated.replica_seconds / max(live.replica_seconds, 1e-9),
        "seconds": SECONDS - WARM_S,
    }
