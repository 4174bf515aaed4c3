"""An agent's neighbours for its tests: a control plane and an edge that are files in a folder.

Run as a program it is an agent of its own process, which a test may kill:

    python -m tests.integration.agent.world HOME RUN_DIR
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from tests.replicas import replica_spec, route_to

from kaon.agent.agent import Agent
from kaon.agent.ports import AgentCall
from kaon.clock import SystemClock
from kaon.drivers.fake import BEHAVIOUR, Behaviour
from kaon.drivers.process import ProcessDriver
from kaon.errors import Unavailable
from kaon.testing import stand_in
from kaon.types.key import Access
from kaon.types.model import Address, content_hash
from kaon.types.names import DeploymentKey
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.replica import ReplicaSpec
from kaon.types.route import ReplicaEndpoint, Route
from kaon.types.versioned import Versioned

POLL_S = 0.02
_ENDPOINTS = TypeAdapter(tuple[ReplicaEndpoint, ...])


def put(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all."""
    beside = path.with_suffix(".part")
    beside.write_bytes(content)
    beside.replace(path)


class Files:
    """Control plane and edge of one agent."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.away = False
        self.tried = 0
        """The number of the agent's requests to the control plane."""
        self.secret_values: dict[str, str] = {}
        self.asked_secrets: list[str] = []
        self.calls: asyncio.Queue[AgentCall] = asyncio.Queue()
        self.answers: dict[str, list[bytes]] = {}
        self.applied: list[tuple[ReplicaEndpoint, ...]] = []

    def _reach(self) -> None:
        self.tried += 1
        if self.away:
            raise Unavailable("The control plane is away.")

    # for tests

    def want(self, plan: Plan) -> None:
        put(self.home / "wanted.json", plan.model_dump_json().encode())

    def reported(self) -> Report:
        file = self.home / "report.json"
        return Report.model_validate_json(file.read_bytes()) if file.exists() else Report(cloud="local")

    def endpoints(self) -> tuple[ReplicaEndpoint, ...]:
        file = self.home / "endpoints.json"
        return _ENDPOINTS.validate_json(file.read_bytes()) if file.exists() else ()

    # control plane

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        for _ in range(int(wait_s / POLL_S)):
            self._reach()
            file = self.home / "wanted.json"
            if file.exists():
                plan = Plan.model_validate_json(file.read_bytes())
                if content_hash(plan) != after:
                    return NamedPlan(name=content_hash(plan), plan=plan)
            await SystemClock().sleep(POLL_S)
        return None

    async def report(self, report: Report) -> None:
        self._reach()
        put(self.home / "report.json", report.model_dump_json().encode())

    async def artifact(self, digest: str) -> Path:
        self._reach()
        return self.home / f"{digest.removeprefix('sha256:')}.tar.gz"

    async def secrets(self, replica: str) -> dict[str, str]:
        self._reach()
        self.asked_secrets.append(replica)
        return self.secret_values

    async def next_call(self, wait_s: float) -> AgentCall | None:
        return await self.calls.get()

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        received = self.answers.setdefault(call, [])
        async for line in lines:
            received.append(line)

    # edge

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        every = tuple(endpoint for group in endpoints.values() for endpoint in group)
        if not self.applied or self.applied[-1] != every:
            self.applied.append(every)
            put(self.home / "endpoints.json", _ENDPOINTS.dump_json(every))

    async def status(self) -> EdgeStatus:
        return EdgeStatus(running=True)

    async def in_flight(self) -> dict[Address, int]:
        return {}


def replica(artifact: str, ordinal: int = 0, revision: int = 1, behaviour: Behaviour | None = None) -> ReplicaSpec:
    env = {BEHAVIOUR: behaviour.model_dump_json()} if behaviour else {}
    return replica_spec(ordinal, revision, artifact=artifact, env=env, drain_s=10)


def plan_of(*replicas: ReplicaSpec, access: Access | None = None, **more: Any) -> Plan:
    return Plan(
        cloud="local",
        replicas=replicas,
        routes=(route_to(1),),
        access={"default/shop": access or Access(public=True)},
        **more,
    )


def text_of(message: Versioned) -> str:
    """The text that a replica keeps of a message."""
    return message.body().decode()


def process_driver(files: Files, run_dir: Path) -> ProcessDriver:
    runtime = (stand_in.__file__,)
    return ProcessDriver(files.home / "agent", run_dir, files.artifact, SystemClock(), runtime=runtime)


async def main(home: Path, run_dir: Path) -> None:
    files = Files(home)
    driver = process_driver(files, run_dir)
    await Agent("local", files, driver, files, SystemClock(), home / "agent", "http://127.0.0.1:1").run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
