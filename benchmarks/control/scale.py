"""What the control plane costs with 50 deployments of 2 replicas and with 200 of 10, on SQLite.

- an idle reconcile: all reconcilers of deployments look at one of which nothing has changed;
- a resync: every reconciler looks at everything;
- a change: from a new spec until its status is in the store, with all loops at work and a report each second beside it.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

from benchmarks.report import QUICK, Report, median
from kaon.clock import SystemClock
from kaon.control import Controllers
from kaon.store import open_store
from kaon.store.port import AnyResource, Store
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.types import deployment as spec
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, Template
from kaon.types.plan import EdgeStatus
from kaon.types.plan import Report as CloudReport
from kaon.types.replica import Phase, ReplicaStatus, replica_id
from kaon.types.service import EndpointSpec, ServiceSpec
from kaon.types.workspace import WorkspaceSpec

SIZES = ((50, 2), (200, 10))
DIGEST = f"sha256:{'0' * 64}"
WS, CLOUD = "default", "local"
ROUNDS = 3 if QUICK else 20
CHANGES = 20 if QUICK else 100
_HOUR_S = 3600.0
_OF_DEPLOYMENTS = {"deployments", "scaling", "tuning", "advising"}


class Platform:
    """A control plane over SQLite, and a cloud where every replica that is assigned is ready."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.snapshot = Snapshot(store)
        self.controllers = Controllers(store, Vault(bytes(32)), SystemClock(), snapshot=self.snapshot)

    async def deploy(self, deployments: int, replicas: int) -> None:
        """Make them, and settle."""
        await self.store.create("workspace", "", WS, WorkspaceSpec())
        await self.store.create("cloud", "", CLOUD, CloudSpec())
        endpoint = EndpointSpec(name="echo", method="POST", path="/echo")
        service = ServiceSpec(name="Echo", entry="app:Echo", endpoints=(endpoint,))
        manifest = Manifest(kaon="0", python="3.11", service=service, files=())
        await self.store.create("artifact", WS, DIGEST, ArtifactSpec(digest=DIGEST, manifest=manifest, size_bytes=1))
        await asyncio.gather(
            *(self.store.create("deployment", WS, f"d{n}", wanted(replicas)) for n in range(deployments))
        )
        before = -1
        while before < (before := await self.store.version()):
            await self.resync()
            await self.report()
            await self.resync()
            if await self.store.version() == before:
                break

    async def resync(self) -> None:
        """What the loops do every half minute, one after the other."""
        for reconciler in self.controllers.reconcilers:
            for key in await reconciler.keys():
                await reconciler.reconcile(key)

    async def report(self, number: int = 1) -> None:
        """The cloud's agent reports that all replicas are ready, in the report of that number."""
        await self.snapshot.current()
        replicas = tuple(
            ReplicaStatus(
                id=replica_id(WS, d.uid, a.revision, o),
                name=f"{d.name}-{a.revision}-{o}",
                workspace=WS,
                deployment=d.name,
                revision=a.revision,
                phase=Phase.READY,
                since=1.0,
                pid=o + 1,
                address=f"unix:/run/kaon/replicas/{d.name}-{o}/service.sock",
            )
            for d in self.snapshot.list("deployment")
            for a in d.status.rollout.assignments
            for o in a.ordinals
        )
        report = CloudReport(
            cloud=CLOUD, replicas=replicas, edge=EdgeStatus(running=True, address=f"127.0.0.1:{number}")
        )
        cloud = await self.store.get("cloud", "", CLOUD)
        status: CloudStatus = cloud.status
        changed = {"report": report, "seen_at": time.time() // _HOUR_S * _HOUR_S + _HOUR_S}
        await self.store.update_status(cloud, status.model_copy(update=changed))


def wanted(replicas: int, number: int = 0) -> DeploymentSpec:
    scaling = spec.Scaling(min=replicas, max=replicas + 1)
    return DeploymentSpec(template=Template(artifact=DIGEST), scaling=scaling, drain_s=30.0 + number)


async def _idle_ms(platform: Platform) -> list[float]:
    """Processor time: nothing is read from a disk, so on an idle machine it is all of the time."""
    took = []
    before = await platform.store.version()
    reconcilers = [r for r in platform.controllers.reconcilers if r.name in _OF_DEPLOYMENTS]
    for _ in range(ROUNDS):
        for deployment in platform.snapshot.list("deployment"):
            began = time.thread_time()
            for reconciler in reconcilers:
                await reconciler.reconcile((WS, deployment.name))
            took.append(1000 * (time.thread_time() - began))
    assert await platform.store.version() == before, "it was not idle"
    return sorted(took)


async def _resyncs_s(platform: Platform) -> list[float]:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await platform.resync()
        took.append(time.perf_counter() - began)
    return sorted(took)


async def _changes_ms(platform: Platform) -> list[float]:
    took = []
    running = [asyncio.create_task(platform.snapshot.run()), asyncio.create_task(platform.controllers.run())]
    await asyncio.sleep(2)  # all have looked at everything once
    reporting = asyncio.create_task(_report_each_second(platform))
    try:
        for number in range(CHANGES):
            await asyncio.sleep(0.05)
            found = await platform.store.get("deployment", WS, "d7")
            with platform.snapshot.changes_of(("deployment", WS, "d7")) as changed:
                began = time.perf_counter()
                made = await platform.store.update_spec(found, wanted(found.spec.scaling.min, number + 1))
                while not _decided(platform.snapshot.get("deployment", WS, "d7"), made):
                    assert await changed.within(10), "nobody has looked"
            took.append(1000 * (time.perf_counter() - began))
    finally:
        for task in (*running, reporting):
            task.cancel()
        await asyncio.gather(*running, reporting, return_exceptions=True)
    return sorted(took)


def _decided(deployment: AnyResource, made: AnyResource) -> bool:
    status: DeploymentStatus = deployment.status
    return status.rollout.observed_generation == made.generation


async def _report_each_second(platform: Platform) -> None:
    for number in itertools.count(1):
        await asyncio.sleep(1)
        await platform.report(number)


async def _measure(report: Report) -> None:
    for deployments, replicas in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(f"sqlite:///{Path(folder) / 'kaon.db'}")
            await store.open()
            platform = Platform(store)
            await platform.deploy(deployments, replicas)
            idle, resyncs = await _idle_ms(platform), await _resyncs_s(platform)
            changes = await _changes_ms(platform)
            await store.close()
        size = f"{deployments}x{replicas}"
        figures = {"idle_reconcile_ms": idle, "change_to_status_ms": changes}
        report.figures[size] = {
            name: {"p50": round(median(values), 3), "p99": round(_p99(values), 3), "most": round(values[-1], 3)}
            for name, values in figures.items()
        } | {"resync_s": {"p50": round(median(resyncs), 3), "most": round(resyncs[-1], 3)}}
        report.at_most(f"idle_reconcile_{size}_ms_p99", _p99(idle), 5)
        report.at_most(f"resync_of_everything_{size}_s_p50", median(resyncs), 1)
        report.at_most(f"change_to_status_{size}_ms_p99", _p99(changes), 100)


def _p99(values: list[float]) -> float:
    return values[min(len(values) - 1, int(0.99 * len(values)))]


def measure(report: Report) -> None:
    """Measure, and keep the bars."""
    asyncio.run(_measure(report))
