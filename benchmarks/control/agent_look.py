"""One look of an agent at 200 replicas where nothing changes, and one search for their memory: processor time.

The look is that of the real agent, on a fake driver and a fake clock, without the probes beside it. The search is what
the process driver does twice a second for replicas with a memory limit, here on 200 real processes; `each_ms` is what
it would cost to search all of /proc for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from benchmarks.report import QUICK, Report, median
from kaon import log, proc, processes
from kaon.agent.agent import Agent
from kaon.agent.ports import AgentCall
from kaon.clock import FakeClock
from kaon.drivers.fake import Behaviour, FakeDriver, FakePlace, FakeReplicas
from kaon.types import plan as wire
from kaon.types.key import Access, Grant
from kaon.types.model import Address
from kaon.types.names import DeploymentKey
from kaon.types.replica import Phase, ReplicaSpec, replica_id
from kaon.types.route import Backend, ReplicaEndpoint, Route

REPLICAS, EACH, GOAL_MS = 200, 10, 20.0
LOOKS = 20 if QUICK else 200
LIMIT_BYTES = 2**30


class Cloud:
    """A control plane with one plan, and an edge that takes everything."""

    def __init__(self, clock: FakeClock, plan: wire.Plan) -> None:
        self._clock = clock
        self._plan: wire.NamedPlan | None = wire.NamedPlan(name="the one", plan=plan)
        self.report_now = wire.Report(cloud="local")

    async def plan(self, after: str, wait_s: float) -> wire.NamedPlan | None:
        if self._plan is None:
            await self._clock.sleep(wait_s)
        plan, self._plan = self._plan, None
        return plan

    async def report(self, report: wire.Report) -> None:
        self.report_now = report

    async def artifact(self, digest: str) -> Path:
        raise NotImplementedError

    async def secrets(self, replica: str) -> dict[str, str]:
        return {}

    async def next_call(self, wait_s: float) -> AgentCall | None:
        await self._clock.sleep(wait_s)
        return None

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        raise NotImplementedError

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        return None

    async def status(self) -> wire.EdgeStatus:
        return wire.EdgeStatus(running=True)

    async def in_flight(self) -> dict[Address, int]:
        return {}


def plan() -> wire.Plan:
    """200 replicas in 20 deployments, each with five keys."""
    names = [f"d{number}" for number in range(REPLICAS // EACH)]
    digest = f"sha256:{'0' * 64}"
    replicas = tuple(
        ReplicaSpec(
            id=replica_id("default", name, 1, ordinal), name=f"{name}-1-{ordinal}", workspace="default",
            deployment=name, revision=1, ordinal=ordinal, artifact=digest,
        )
        for name in names
        for ordinal in range(EACH)
    )  # fmt: skip
    routes = tuple(
        Route(workspace="default", deployment=name, prefix=f"/{name}", backends=(Backend(revision=1, weight=100),))
        for name in names
    )
    grants = tuple(Grant(hash=f"{number:064x}", key=f"key-{number}") for number in range(5))
    access = {f"default/{name}": Access(grants=grants) for name in names}
    return wire.Plan(cloud="local", replicas=replicas, routes=routes, access=access)


async def looks(folder: Path) -> list[float]:
    """Milliseconds of the processor for each look, once all replicas are ready."""
    clock = FakeClock()
    place = FakePlace(clock, script=lambda _: Behaviour())
    cloud = Cloud(clock, plan())
    agent = Agent("local", cloud, FakeDriver(place), cloud, clock, folder, "http://edge", replicas=FakeReplicas(place))
    running = asyncio.create_task(agent.run())
    while sum(replica.phase is Phase.READY for replica in cloud.report_now.replicas) < REPLICAS:
        await clock.advance(0.5)
        await asyncio.sleep(0)
    took = []
    for _ in range(LOOKS):
        began = time.process_time()
        await agent._reconcile_once()
        took.append(1000 * (time.process_time() - began))
    running.cancel()
    await asyncio.wait([running])
    return took


@contextlib.contextmanager
def sleeping(folder: Path) -> Iterator[list[int]]:
    """200 processes in sessions of their own."""
    locks = [folder / f"lock-{number}" for number in range(REPLICAS)]
    try:
        yield [processes.spawn(["/bin/sleep", "600"], lock=lock, env={}) for lock in locks]
    finally:
        asyncio.run(_stop(locks))


async def _stop(locks: list[Path]) -> None:
    await asyncio.gather(*(processes.stop(lock, 0) for lock in locks))


def search(pids: list[int]) -> float:
    """Milliseconds of one search for all."""
    began = time.process_time()
    table = proc.table()
    for pid in pids:
        proc.memory_over(pid, LIMIT_BYTES, table)
    return 1000 * (time.process_time() - began)


def search_each(pids: list[int]) -> float:
    """Milliseconds of a search for each; a few are measured, and taken for all."""
    few = pids[:10]
    began = time.process_time()
    for pid in few:
        proc.memory_over(pid, LIMIT_BYTES, proc.table())
    return 1000 * (time.process_time() - began) * len(pids) / len(few)


def measure(report: Report) -> None:
    """Put the look's figures and bars into `report`."""
    log.configure(level="warning")
    with tempfile.TemporaryDirectory() as folder:
        took = sorted(asyncio.run(looks(Path(folder))))
        with sleeping(Path(folder)) as pids:
            shared = median(search(pids) for _ in range(5 if QUICK else 20))
            each = search_each(pids)
    report.figures["agent_look_ms"] = {"p50": median(took), "p99": took[int(0.99 * len(took))]}
    report.figures["memory_search_ms"] = {"shared_ms": shared, "each_ms": each}
    report.at_most("agent_look_200_replicas_idle_ms_p50", median(took), GOAL_MS)
    report.at_most("agent_memory_search_200_replicas_ms_p50", shared, 2 * GOAL_MS)


if __name__ == "__main__":
    alone = Report("agent-look")
    measure(alone)
    print("\n".join(map(str, alone.bars)))
    print(alone.figures)
