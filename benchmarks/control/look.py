"""One look of the tuner at 500 deployments, as many calls as in `tick`: processor time in all, and the longest stretch
in which nothing else of the control plane has its turn. Its twin is not asked: that is another thread's work.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.control.tick import CALLS_PER_S, DEPLOYMENTS, DIGEST, REPLICAS, sample
from benchmarks.report import QUICK, Report, median
from kaon.clock import FakeClock
from kaon.control.scaling import ScalingController
from kaon.control.tune.controller import TuningController
from kaon.laws.tune.guard import TICK_S
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.traffic import TrafficRing
from kaon.types import deployment as spec
from kaon.types.deployment import Assignment, DeploymentSpec, DeploymentStatus, RolloutStatus, ScalingStatus, Template
from kaon.types.traffic import Traffic


async def looks(seconds: int) -> tuple[list[float], list[float]]:
    """What each look took, and its longest stretch without a pause; milliseconds of the processor."""
    clock, ring = FakeClock(), TrafficRing()
    store, live_status = MemoryStore(clock), LiveStatus()
    tuning = TuningController(store, clock, ring, live_status, ScalingController(store, clock, ring, live_status))
    for number in range(DEPLOYMENTS):
        wanted = DeploymentSpec(template=Template(artifact=DIGEST), scaling=spec.Scaling(min=1, max=100))
        serving = (Assignment(revision=1, replicas=REPLICAS, ready=REPLICAS, weight=100),)
        rollout = RolloutStatus(stable=1, target=1, assignments=serving)
        status = DeploymentStatus(rollout=rollout, scaling=ScalingStatus(wanted=REPLICAS))
        await store.create("deployment", "default", f"d{number}", wanted, status)
    for key in await tuning.keys():
        await tuning.reconcile(key)
    took, longest, each = [], [], CALLS_PER_S // DEPLOYMENTS
    for second in range(1, seconds + 1):
        await clock.advance(1)
        samples = [sample(n, clock.now(), each + (second * 7 + n * 13) % 40) for n in range(DEPLOYMENTS)]
        ring.add(Traffic.model_construct(cloud="local", samples=tuple(samples)))
        if second % TICK_S == 0:
            stretches: list[float] = []
            watching = asyncio.create_task(_watch(stretches))
            await asyncio.sleep(0)
            began = time.thread_time()
            await tuning.tick()
            took.append(1000 * (time.thread_time() - began))
            watching.cancel()
            longest.append(1000 * max(stretches))
    return took, longest


async def _watch(stretches: list[float]) -> None:
    """Note how long others had the loop, whenever they let go of it."""
    before = time.thread_time()
    while True:
        await asyncio.sleep(0)
        now = time.thread_time()
        stretches.append(now - before)
        before = now


def measure(report: Report) -> None:
    """Put the look's figures and bars into `report`."""
    took, longest = asyncio.run(looks(60 if QUICK else 300))
    settled = sorted(took[len(took) // 2 :])
    report.figures["tuner_look_ms"] = {"p50": median(settled), "most": settled[-1], "first": took[0]}
    report.figures["tuner_look_longest_stretch_ms"] = {"p50": median(longest[1:]), "most": max(longest[1:])}
    report.at_most("tuner_look_500_deployments_ms_p50", median(settled), 500)
    report.at_most("tuner_look_longest_stretch_ms_p50", median(longest[1:]), 50)
