"""One tick of the scaling controller: 500 deployments of 10 replicas, 50,000 calls a second in all.

Everything that a tick does in production is done: the news of the last two seconds taken from the ring, added up to
observations, the laws' steps, restraint, and a status and a journal entry written for whatever changed (to memory:
what a disk adds is waiting, not work).
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.report import QUICK, Report, median
from kaon.clock import FakeClock
from kaon.control.scaling import TICK_S, ScalingController
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.traffic import TrafficRing
from kaon.types import deployment as spec
from kaon.types.deployment import Assignment, DeploymentSpec, DeploymentStatus, RolloutStatus, ScalingStatus, Template
from kaon.types.observation import Batches
from kaon.types.traffic import Sample, Traffic

DEPLOYMENTS, REPLICAS, CALLS_PER_S = 500, 10, 50_000
DIGEST = f"sha256:{'0' * 64}"


def sample(number: int, at_s: float, calls: int) -> Sample:
    """A second of one deployment: batches of four at 40 ms a row, latencies over eight buckets."""
    return Sample.model_construct(
        workspace="default",
        deployment=f"d{number}",
        revision=1,
        cloud="local",
        at_s=at_s,
        span_s=1.0,
        arrivals=calls,
        codes={"2xx": calls},
        latency=dict.fromkeys(range(18, 26), calls // 8),
        in_flight=calls // 8,
        queued=0,
        queue_s=0.0,
        began=calls,
        busy_s=calls * 0.04,
        batches=Batches.model_construct(
            count=calls // 4,
            rows=float(calls),
            seconds=calls * 0.04,
            rows_squared=calls * 5.0,
            rows_seconds=calls * 0.18,
        ),
        ready=REPLICAS,
        starting=0,
        ready_s=None,
        paid_s=None,
        held=0,
        starts=(),
    )


async def ticks(seconds: int) -> tuple[list[float], int]:
    """What each tick took, milliseconds, and how many decisions were journalled."""
    clock, ring = FakeClock(), TrafficRing()
    store = MemoryStore(clock)
    scaling = ScalingController(store, clock, ring, LiveStatus())
    for number in range(DEPLOYMENTS):
        wanted = DeploymentSpec(template=Template(artifact=DIGEST), scaling=spec.Scaling(min=1, max=100))
        serving = (Assignment(revision=1, replicas=REPLICAS, ready=REPLICAS, weight=100),)
        rollout = RolloutStatus(stable=1, target=1, assignments=serving)
        status = DeploymentStatus(rollout=rollout, scaling=ScalingStatus(wanted=REPLICAS))
        await store.create("deployment", "default", f"d{number}", wanted, status)
    for key in await scaling.keys():
        await scaling.reconcile(key)
    took, each = [], CALLS_PER_S // DEPLOYMENTS
    for second in range(1, seconds + 1):
        await clock.advance(1)
        samples = [sample(n, clock.now(), each + (second * 7 + n * 13) % 40) for n in range(DEPLOYMENTS)]
        ring.add(Traffic.model_construct(cloud="local", samples=tuple(samples)))
        if second % TICK_S == 0:
            began = time.perf_counter()
            await scaling.tick()
            took.append(1000 * (time.perf_counter() - began))
    entries = [e for n in range(DEPLOYMENTS) for e in await store.journal("default", f"d{n}")]
    return took, len(entries)


def measure(report: Report) -> None:
    """Put the tick's figures and bars into `report`."""
    took, entries = asyncio.run(ticks(240 if QUICK else 1200))
    settled = sorted(took[len(took) // 2 :])
    p50, p99 = median(settled), settled[int(0.99 * len(settled))]
    report.figures["control_tick_ms"] = {"p50": p50, "p99": p99, "first_half_max": max(took[: len(took) // 2])}
    report.figures["decisions_journalled"] = entries
    report.at_most("control_tick_5000_replicas_ms_p50", p50, 100)
    report.at_most("control_tick_5000_replicas_ms_p99", p99, 100)
