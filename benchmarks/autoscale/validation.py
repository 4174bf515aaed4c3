"""Whether the simulator can be believed, and how quick it is."""

from __future__ import annotations

import time

from benchmarks.autoscale.arms import OBJECTIVE, Static
from benchmarks.report import QUICK, Report
from kaon.laws.scaling import Bounds
from kaon.sim import memory
from kaon.sim.engine import SimulatedDeployment, Truth, available, deployment
from kaon.sim.run import SimulationSetting, run
from kaon.sim.theory import inoue_bound_s, mmc_response_s
from kaon.sim.traffic import arrivals
from kaon.types.objective import Objective

PATIENT = Objective(latency_s=100.0, deadline_s=3600.0)


def mean_response_s(truth: Truth, servers: int, rate: float, seconds: int) -> float:
    world = deployment(truth, PATIENT, arrivals([rate] * seconds, 3), seed=3)
    world.scale(servers)
    world.advance(seconds + 100.0)
    return _mean(world)


def _mean(world: SimulatedDeployment) -> float:
    counts = world.world.counts
    return float(counts[memory.LATENCY_SUM]) / float(counts[memory.ANSWERED]) / 1e9


def measure(report: Report) -> None:
    """Against M/M/c and Inoue's bound; events per second, compiled and plain."""
    seconds = 2_000 if QUICK else 20_000
    worst = 0.0
    for servers, busy in ((1, 0.5), (4, 0.7), (16, 0.8)):
        truth = Truth(a=0.0, b=0.1, max_batch=1, start_s=0.0, exponential=True, shared_queue=True)
        rate = busy * servers / 0.1
        simulated, expected = mean_response_s(truth, servers, rate, seconds), mmc_response_s(servers, rate, 0.1)
        report.figures[f"mmc_{servers}_{busy}"] = {"simulated_s": simulated, "theory_s": expected}
        worst = max(worst, abs(simulated / expected - 1))
    report.at_most("mmc_worst_relative_error", worst, 0.03)
    highest, lowest = 0.0, 9.0
    for busy in (0.3, 0.5, 0.7, 0.85):
        truth = Truth(a=0.02, b=0.08, max_batch=512, noise=0.0, start_s=0.0)
        simulated, bound = mean_response_s(truth, 1, busy / 0.02, seconds), inoue_bound_s(busy / 0.02, 0.02, 0.08)
        report.figures[f"inoue_{busy}"] = {"simulated_s": simulated, "bound_s": bound}
        highest, lowest = max(highest, simulated / bound), min(lowest, simulated / bound)
    report.at_most("inoue_simulated_over_bound", highest, 1.01)
    report.at_least("inoue_simulated_over_bound_least", lowest, 0.9)
    for name, compiled in (("compiled", True), ("plain", False)):
        if compiled and not available():
            continue
        rates = [600.0 if compiled else 60.0] * (120 if QUICK else 600)
        calls = arrivals(rates, 4)
        world = deployment(Truth(), OBJECTIVE, calls, seed=4, compiled=compiled)
        world.scale(30 if compiled else 3)
        world.advance(0.0)
        began = time.perf_counter()
        world.advance(len(rates))
        per_s = float(world.world.counts[memory.EVENTS]) / (time.perf_counter() - began)
        report.figures[f"events_per_s_{name}"] = per_s
        if compiled:
            report.at_least("simulator_events_per_s", per_s, 2e6)
    calls = arrivals([50.0] * 120, 4)
    outcomes = [
        run(Static(4), SimulationSetting(objective=OBJECTIVE, bounds=Bounds(1, 9), compiled=compiled), calls, 4)
        for compiled in ((True, False) if available() else (False,))
    ]
    report.at_least("plain_and_compiled_agree", float(all(o == outcomes[0] for o in outcomes)), 1)
