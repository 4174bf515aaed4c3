"""What observation costs each second, in processor time: 500 deployments, 5,000 replicas, 50,000 calls a second.

In the agent: differences of all totals, and keeping them. In the control plane: taking the post in through the real
API, and reading what is new of every deployment as the law's tick does, every second second.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

import httpx2

from benchmarks.report import QUICK, Report, median
from kaon.agent.traffic.observer import body
from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory, step
from kaon.api.app import create_app
from kaon.clock import FakeClock
from kaon.edge.counts import ClusterCounts, EdgeCounts
from kaon.laws.traffic import observation, window
from kaon.settings import Settings
from kaon.store.blobs import FileBlobs
from kaon.store.memory import MemoryStore
from kaon.store.plans import write_plan
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types.figures import ReplicaFigures
from kaon.types.key import KEY_PREFIX, KeySpec, KeyStatus, Role, key_hash
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.plan import Plan, PlanPart
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import LATENCY_BOUNDS_S, Traffic
from kaon.types.workspace import WorkspaceSpec, WorkspaceStatus

DEPLOYMENTS, REPLICAS, CALLS_PER_S = 500, 5_000, 50_000
SECONDS = 40 if QUICK else 200
KEY = KEY_PREFIX + "benchmark" * 4
OBJECTIVE = Objective()


class Cloud:
    """Totals as an edge and replicas report them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._random = random.Random(1)
        self._replicas = tuple(
            ReplicaStatus(
                id=f"{n:012x}", name=f"r{n}", workspace="default", deployment=f"d{n % DEPLOYMENTS}", revision=1,
                phase=Phase.READY,
            )
            for n in range(REPLICAS)
        )  # fmt: skip
        self._served = frozenset(("default", f"d{n}", 1) for n in range(DEPLOYMENTS))
        self._calls = [0] * DEPLOYMENTS
        self._latency = [[0] * (len(LATENCY_BOUNDS_S) + 1) for _ in range(DEPLOYMENTS)]

    def look(self) -> TrafficReading:
        now, each = self._clock.monotonic(), CALLS_PER_S // DEPLOYMENTS
        for n, latency in enumerate(self._latency):
            self._calls[n] += each
            for _ in range(25):  # as many buckets have something new, about
                latency[min(60, int(self._random.lognormvariate(3.3, 0.35)))] += each // 25
        clusters = {
            f"default~d{n}~1": ClusterCounts(
                attempts=calls, answers={"2xx": calls}, latency=tuple(self._latency[n]), in_flight=4
            )
            for n, calls in enumerate(self._calls)
        }
        batches = Batches(count=int(now * 3), rows=now * 10, seconds=now * 0.5, rows_squared=now * 40, rows_seconds=now)
        figures = {
            r.id: ReplicaFigures(
                began_at=1, at_s=now, began=int(now * 10), busy_s=now * 0.6, queue_s=now, batches=batches
            )
            for r in self._replicas
        }
        return TrafficReading(self._clock.now(), now, EdgeCounts(1, clusters), figures, self._replicas, self._served)


def measure(report: Report) -> None:
    """Measure, and keep the bars."""
    asyncio.run(_measure(report))


async def _measure(report: Report) -> None:
    clock = FakeClock()
    cloud, own, ring = Cloud(clock), TrafficRing(), TrafficRing()
    took: dict[str, list[float]] = {name: [] for name in ("differences", "keeping", "intake", "news", "windows")}
    memory: TrafficHistory | None = None
    number, after_s = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        async with await _agent(Path(folder), clock, ring) as agent:
            for second in range(SECONDS):
                await clock.advance(1.0)
                look = cloud.look()
                began = time.process_time()
                memory, samples = step("local", memory, look)
                _note(took["differences"], began)
                if not samples:
                    continue
                began = time.process_time()
                own.add(Traffic(cloud="local", samples=tuple(samples)), clock.now())
                _note(took["keeping"], began)
                content = body("local", after_s, own.moments("local", after_s))
                after_s = clock.now()
                began = time.process_time()
                answer = await agent.post("/clouds/local/traffic", content=content)
                _note(took["intake"], began)
                assert answer.json()["until_s"] == after_s, answer.text
                if second % 2 == 0:
                    began = time.process_time()
                    for n in range(DEPLOYMENTS):
                        news, latest = ring.news("default", f"d{n}", number)
                        observation(news, clock.now(), 2.0, OBJECTIVE)
                    number = latest
                    _note(took["news"], began)
                if second % 10 == 9:
                    began = time.process_time()
                    recent = ring.since("default", "d7", clock.now() - 1800)
                    for span_s in (12.0, 60.0, 1800.0):
                        window(recent, clock.now(), span_s, OBJECTIVE)
                    _note(took["windows"], began)
    found = {name: median(times[len(times) // 2 :]) for name, times in took.items()}
    report.figures["observation_ms"] = {name: round(value, 2) for name, value in found.items()}
    report.figures["observation_post_bytes"] = len(content)
    report.at_most("agent_differences_5000_replicas_ms_p50", found["differences"] + found["keeping"], 100)
    report.at_most("intake_of_samples_50000_rps_ms_p50", found["intake"], 100)
    report.at_most("intake_and_news_per_tick_ms_p50", 2 * found["intake"] + found["news"], 100)
    report.at_most("windows_of_a_deployment_ms_p50", found["windows"], 50)


def _note(times: list[float], began: float) -> None:
    times.append(1000 * (time.process_time() - began))


async def _agent(folder: Path, clock: FakeClock, ring: TrafficRing) -> httpx2.AsyncClient:
    """An agent's way into the real API."""
    store = MemoryStore(clock)
    await store.create("workspace", "", "default", WorkspaceSpec(), WorkspaceStatus())
    spec = KeySpec(hash=key_hash(KEY), hint=KEY[:9], role=Role.AGENT, cloud="local")
    await store.create("key", "default", "agent", spec, KeyStatus())
    snapshot = Snapshot(store)
    await snapshot.current()
    parts = {f"default/d{n}": PlanPart() for n in range(DEPLOYMENTS)}
    await write_plan(store, snapshot, Plan(cloud="local", parts=parts))
    settings, blobs = Settings(home=folder), FileBlobs(folder / "blobs")
    app = create_app(store=store, blobs=blobs, vault=Vault(b"k" * 32), settings=settings, clock=clock, traffic=ring)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://localhost/api/v1",
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        timeout=60,
    )
