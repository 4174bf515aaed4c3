"""Jobs: how many are submitted in a second, and what a decision costs while 100,000 wait."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

from benchmarks.report import QUICK, Report, median
from kaon.api import jobs
from kaon.api.app import create_app
from kaon.api.keyring import Caller
from kaon.clock import SystemClock
from kaon.laws.queue import Amount, JobQueue, JobRoom, WaitingJob
from kaon.laws.rights import EffectiveRights
from kaon.settings import Settings
from kaon.store.port import AuditRetention, Store
from kaon.store.snapshot import Snapshot
from kaon.store.sql import SqlStore
from kaon.store.vault import Vault
from kaon.testing.blobs import MemoryBlobs
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.job import JobDeclaration, JobRequest
from kaon.types.key import RIGHTS, Role
from kaon.types.service import ServiceSpec
from kaon.types.workspace import WorkspaceSpec

WAITING, GIB = 100_000, 2.0**30
WS, DIGEST = "default", f"sha256:{'0' * 64}"


def main() -> None:
    report = Report("jobs")
    decide(report)
    asyncio.run(submit(report))
    report.finish()


def decide(report: Report) -> None:
    """A queue of 50 workspaces with 20 sizes of jobs: each decision starts what fits when one job has ended."""
    drawn = random.Random(7)
    queue = JobQueue()
    for number in range(WAITING):
        demand = Amount(float(drawn.randint(1, 20)), GIB * drawn.randint(1, 3), 0.0)
        key = (f"w{drawn.randrange(50)}", f"j{number}")
        queue.wait(WaitingJob(key, demand, drawn.randint(-3, 3), float(number)))
    total = Amount(640.0, 2000 * GIB, 0.0)
    took = []
    for turn in range(50 if QUICK else 500):
        room = JobRoom("local", total.plus(queue.used_in("local"), -1.0), total)
        began = time.perf_counter()
        decision = queue.decide([room], float(WAITING + turn))
        took.append(1000 * (time.perf_counter() - began))
        for start in decision.starts:
            if (job := queue.waiting_job(start.key)) is not None:
                queue.run(start.key, start.cloud, job.demand)
        queue.forget(drawn.choice(list(queue.running)))
    took.sort()
    report.figures["decision_ms"] = {"p50": median(took), "p99": took[int(0.99 * len(took))], "max": took[-1]}
    report.at_most("queue_decision_100000_waiting_ms_p99", took[int(0.99 * len(took))], 20)


async def submit(report: Report) -> None:
    """Requests with a checked parameter, one after the other and 16 at once, into SQLite; without HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(f"sqlite:///{folder}/kaon.db", SystemClock(), AuditRetention())
        await store.open()
        try:
            await _submit(report, store, Path(folder))
        finally:
            await store.close()


async def _submit(report: Report, store: Store, folder: Path) -> None:
    declared = JobDeclaration(name="train", entry="m:train", parameters={"properties": {"n": {"type": "integer"}}})
    service = ServiceSpec(name="Train", entry="m:train")
    manifest = Manifest(kaon="0", python="3.11", service=service, jobs=(declared,), files=())
    await store.create("workspace", "", WS, WorkspaceSpec())
    await store.create("artifact", WS, DIGEST, ArtifactSpec(digest=DIGEST, size_bytes=1, manifest=manifest))
    snapshot = Snapshot(store)
    await snapshot.current()
    app = create_app(
        store=store,
        blobs=MemoryBlobs(),
        vault=Vault(b"0" * 32),
        settings=Settings(home=folder),
        clock=SystemClock(),
        snapshot=snapshot,
    )
    caller = Caller("root", "root", "", Role.ADMIN, EffectiveRights(rights=RIGHTS[Role.ADMIN]), verb="submit")
    following = asyncio.ensure_future(snapshot.run())

    async def one(number: int) -> None:
        request = JobRequest(artifact=DIGEST, function="train", parameters={"n": number})
        await snapshot.current()
        await jobs.submit_job(WS, request, app.state.context, caller)

    count = 100 if QUICK else 1000
    for at_once in (1, 16):
        began = time.perf_counter()
        for first in range(0, count, at_once):
            await asyncio.gather(*(one(number) for number in range(first, first + at_once)))
        report.figures[f"submitted_per_s_{at_once}_at_once"] = count / (time.perf_counter() - began)
    report.at_least("jobs_submitted_per_s", report.figures["submitted_per_s_16_at_once"], 200)
    following.cancel()


if __name__ == "__main__":
    main()
