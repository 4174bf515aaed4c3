"""A platform to talk to: the real API on its socket, and stand-ins for what stands behind it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from tests.statuses import status_with
from tests.waiting import lasts, until
from typer.testing import CliRunner

import kaon
from kaon.api.app import create_app
from kaon.build.build import Built, build
from kaon.cli import app
from kaon.cli.shared.remote import opened
from kaon.cli.shared.rollout_wait import until_rolled_out
from kaon.clock import SystemClock
from kaon.drivers.port import LogLine
from kaon.errors import Conflict, NotFound
from kaon.sdk.service import service_of
from kaon.settings import Settings
from kaon.store.blobs import FileBlobs
from kaon.store.memory import MemoryStore
from kaon.store.vault import Vault
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    RevisionSpec,
    RevisionStatus,
    RolloutState,
    Template,
    template_hash,
)
from kaon.types.key import KeySpec, KeyStatus, Role, key_hash
from kaon.types.plan import EdgeStatus, Report
from kaon.types.replica import Phase, ReplicaStatus, replica_id
from kaon.types.workspace import WorkspaceSpec, WorkspaceStatus

WRITE = os.environ.get("KAON_GOLDEN") == "write"
KEY = "kaon_" + "k" * 43
LINES = ("started", "an \x1b[31mERROR\x1b[0m of note", "ready")

GREETER = """
import kaon

@kaon.service
class Greeter:
    '''Says hello.'''

    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting

    @kaon.endpoint
    def greet(self, names: list[str]) -> list[str]:
        return [f"{self.greeting}, {name}!" for name in names]
"""


@kaon.service(name="greeter")
class Greeter:
    @kaon.endpoint
    def greet(self, names: list[str]) -> list[str]:
        return [f"Hello, {name}!" for name in names]

    @kaon.endpoint(method="GET")
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


Kaon = Callable[..., Said]


@pytest.fixture
def kaon_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> Path:
    """A home of its own, and no variable that leads elsewhere."""
    for name in list(os.environ):
        if name.startswith("KAON_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KAON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAON_PORT", str(free_port()))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Asserts that a text is what its golden file holds; `KAON_GOLDEN=write pytest tests/unit/cli` writes them."""
    here = Path(__file__).parent / "golden"

    def check(name: str, text: str) -> None:
        file = here / f"{name}.txt"
        if WRITE:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.read_text(encoding="utf-8") == text

    return check


@pytest.fixture
def run(kaon_home: Path) -> Kaon:
    """Types a command; nobody is at the terminal."""

    def typed(*arguments: str, text: str = "") -> Said:
        result = CliRunner().invoke(app, list(arguments), prog_name="kaon", input=text)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return typed


class World:
    """What stands behind the API: makes every deployment so, unless it is broken, and answers for the agent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = MemoryStore()
        self.vault = Vault(b"k" * 32)
        self.app = create_app(
            store=self.store,
            blobs=FileBlobs(settings.home / "server" / "blobs"),
            vault=self.vault,
            settings=settings,
            clock=SystemClock(),
        )
        self.started = threading.Event()
        self.stop = threading.Event()
        self.calls: list[dict[str, Any]] = []

    def live(self) -> None:
        """The thread's whole life."""
        asyncio.run(self._live())

    async def _live(self) -> None:
        await self.store.create("workspace", "", "default", WorkspaceSpec(), WorkspaceStatus())
        admin = KeySpec(hash=key_hash(KEY), hint=KEY[:9], role=Role.ADMIN)
        await self.store.create("key", "default", "admin", admin, KeyStatus())
        self.settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        api = _Server(uvicorn.Config(self.app, uds=str(self.settings.api_socket), log_level="warning"))
        edge = _Server(uvicorn.Config(_edge(), host="127.0.0.1", port=self.settings.port, log_level="warning"))
        work = [asyncio.ensure_future(c) for c in (api.serve(), edge.serve(), self._reconcile(), self._answer())]
        await until(lambda: api.started and edge.started)
        self.started.set()
        await asyncio.to_thread(self.stop.wait)
        api.should_exit = edge.should_exit = True
        for task in work[2:]:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    async def _reconcile(self) -> None:
        while True:
            replicas: list[ReplicaStatus] = []
            for deployment in await self.store.list_all("deployment"):
                with suppress(Conflict, NotFound):
                    replicas += await self._one(deployment)
            report = Report(cloud="local", replicas=tuple(replicas), edge=EdgeStatus(running=True))
            cloud = await self.store.find("cloud", "", "local")
            if cloud is None:
                cloud = await self.store.create("cloud", "", "local", CloudSpec(), CloudStatus())
            now = SystemClock().now()
            await self.store.update_status(cloud, CloudStatus(report=report, seen_at=now))
            await lasts(0.02)

    async def _one(self, deployment: Any) -> list[ReplicaStatus]:
        spec, status = deployment.spec, deployment.status
        revisions = [r for r in await self.store.list_all("revision") if r.spec.deployment == deployment.name]
        hashed = template_hash(spec.template)
        mine = next((r for r in revisions if r.spec.template_hash == hashed), None)
        if mine is None:
            number = len(revisions) + 1
            made = RevisionSpec(deployment=deployment.name, number=number, template=spec.template, template_hash=hashed)
            name = f"{deployment.name}-{number}"
            mine = await self.store.create("revision", deployment.workspace, name, made, RevisionStatus())
        number, count = mine.spec.number, max(spec.scaling.min, 0)
        broken = "BROKEN" in spec.template.env
        if broken:
            after = status_with(
                observed_generation=deployment.generation,
                state=RolloutState.STOPPED,
                reason="THRESHOLD is missing",
                stable=status.rollout.stable,
                target=number,
            )
        else:
            after = status_with(
                observed_generation=deployment.generation,
                state=RolloutState.STABLE,
                stable=number,
                target=number,
                assignments=(Assignment(revision=number, replicas=count, ready=count, weight=100),),
            )
        await self.store.update_status(deployment, after)
        return [self._replica(deployment, number, ordinal, broken) for ordinal in range(max(count, int(broken)))]

    def _replica(self, deployment: Any, revision: int, ordinal: int, broken: bool) -> ReplicaStatus:
        return ReplicaStatus(
            id=replica_id(deployment.workspace, deployment.uid, revision, ordinal),
            name=f"{deployment.name}-{revision}-{ordinal}",
            workspace=deployment.workspace,
            deployment=deployment.name,
            revision=revision,
            phase=Phase.CONFIG_ERROR if broken else Phase.READY,
            reason="THRESHOLD is missing" if broken else "",
            since=SystemClock().now(),
            exit_code=78 if broken else None,
            last_lines=("ConfigError: THRESHOLD is missing",) if broken else (),
        )

    async def _answer(self) -> None:
        broker = self.app.state.context.broker
        while True:
            call = await broker.next_call("local", 1.0)
            if call is None:
                continue
            self.calls.append(call.arguments)
            lines = [LogLine(replica=r, text=text) for r in call.arguments["replicas"] for text in LINES]

            async def chunks(lines: list[LogLine] = lines) -> AsyncIterator[bytes]:
                for line in lines:
                    yield line.model_dump_json().encode() + b"\n"

            await broker.answer("local", call.id, chunks())


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """It is not the main thread's."""

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def _edge() -> Starlette:
    """What callers reach: one deployment, behind its prefix."""

    async def document(request: Request) -> JSONResponse:
        return JSONResponse(service_of(Greeter).openapi())

    async def greet(request: Request) -> JSONResponse:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"code": "unauthenticated", "detail": "no key", "status": 401}, 401)
        return JSONResponse(Greeter().greet(**json.loads(await request.body())))

    async def count(request: Request) -> StreamingResponse:
        to = int(request.query_params["to"])
        events = (f"data: {number}\n\n" for number in range(to))
        return StreamingResponse(events, media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/greeter/openapi.json", document),
            Route("/greeter/greet", greet, methods=["POST"]),
            Route("/greeter/count", count),
        ]
    )


@pytest.fixture
def world(kaon_home: Path) -> Iterator[World]:
    """A platform that runs, with its admin key where the command line looks."""
    settings = Settings()
    settings.admin_key_file.write_text(KEY + "\n")
    settings.admin_key_file.chmod(0o600)
    world = World(settings)
    thread = threading.Thread(target=world.live)
    thread.start()
    assert world.started.wait(20)
    yield world
    world.stop.set()
    thread.join(20)


@pytest.fixture
def project(kaon_home: Path, tmp_path: Path) -> Path:
    """The folder that commands are typed in, with one service."""
    (tmp_path / "work" / "greeter.py").write_text(GREETER)
    return tmp_path / "work"


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """That service, built once for all tests."""
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "greeter.py").write_text(GREETER)
    return build("greeter.py:Greeter", folder=folder, environments=folder / ".environments", out=folder / "dist")


@pytest.fixture
def deployed(world: World, project: Path, artifact: Built) -> None:
    """`kaon deploy greeter.py:Greeter` has been typed."""
    with opened() as remote:
        remote.upload(artifact.path, artifact.digest, lambda _: None)
        spec = DeploymentSpec(template=Template(artifact=artifact.digest))
        remote.put_deployment("greeter", spec, None)
        until_rolled_out(remote, "greeter")
