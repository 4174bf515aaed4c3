"""One tick over 5,000 replicas and 50,000 calls a second: of the law alone, as 100 deployments of 50; and whole."""

from __future__ import annotations

import time

from benchmarks.control import agent_look, intake, look, plan_size, scale, tick
from benchmarks.report import QUICK, Report, median
from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds
from kaon.stack.server import collect_garbage_seldom
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

DEPLOYMENTS, REPLICAS, CALLS_PER_S, TICK_S = 100, 5_000, 50_000, 2.0


def main() -> None:
    report = Report("control")
    law, bounds = Scale(Objective(), 8), Bounds(1, 1000)
    states = [law.begin() for _ in range(DEPLOYMENTS)]
    each = int(CALLS_PER_S * TICK_S / DEPLOYMENTS)
    ticks = []
    for turn in range(1, 100 if QUICK else 600):
        began = time.perf_counter()
        for i in range(DEPLOYMENTS):
            calls = each + (turn * 7 + i * 13) % 40
            batches = Batches(
                count=calls // 4, rows=calls, seconds=calls * 0.04, rows_squared=calls * 5.0, rows_seconds=calls * 0.18
            )
            observed = Observation(
                at_s=turn * TICK_S,
                span_s=TICK_S,
                arrivals=calls,
                answered=calls,
                missed=0,
                in_flight=calls // 8,
                queued=0,
                batches=batches,
                ready=REPLICAS // DEPLOYMENTS,
            )
            states[i], _ = law.step(states[i], bounds, observed)
        ticks.append(1000 * (time.perf_counter() - began))
    settled = sorted(ticks[len(ticks) // 2 :])
    report.figures["tick_ms"] = {"p50": median(settled), "p99": settled[int(0.99 * len(settled))]}
    report.at_most("law_tick_5000_replicas_ms_p50", median(settled), 100)
    report.at_most("law_tick_5000_replicas_ms_p99", settled[int(0.99 * len(settled))], 100)
    collect_garbage_seldom()  # as the server does
    tick.measure(report)
    look.measure(report)
    scale.measure(report)
    agent_look.measure(report)
    intake.measure(report)
    plan_size.measure(report)
    report.finish()


if __name__ == "__main__":
    main()
