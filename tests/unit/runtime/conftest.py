"""A replica's parts, put together in the test's own loop on unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.unit.runtime.replica_process import Process
from tests.waiting import until

from kaon.clock import FakeClock
from kaon.runtime.access_list import AccessList
from kaon.runtime.app import App
from kaon.runtime.control import Control
from kaon.runtime.inflight import Flights
from kaon.runtime.lane import Lane
from kaon.runtime.protocol import ReplicaProtocol
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.server import bound, server
from kaon.runtime.serving import Serving
from kaon.sdk.service import construct, service_of
from kaon.types.flight import flights
from kaon.types.key import Access, Grant, key_hash
from kaon.types.replica import Phase

KEY = "kaon_testing"
BOUND_S = 60.0


@dataclass
class Running:
    """A service that answers."""

    serving: Serving
    control: Control
    clock: FakeClock
    instance: Any
    client: httpx2.AsyncClient
    control_client: httpx2.AsyncClient
    path: str

    def lane(self, name: str) -> Lane:
        return next(lane for lane in self.serving.lanes if lane.name == name)

    def noted(self) -> list[str]:
        """The request ids of the calls that are noted as in flight."""
        return sorted(flight.request_id for flight in flights(Path(f"{self.path}f").read_bytes(), 0.0))

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own, for what a client would not send."""
        return await asyncio.open_unix_connection(self.path)


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """`await eventually(condition)`"""
    return until


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`await serve(Class, access=..., environ=...)` answers a `Running`; the key is sent unless told otherwise."""
    async with AsyncExitStack() as stack:
        count = 0

        async def start(cls: type, *, access: Access | None = None, open_door: bool = True) -> Running:
            nonlocal count
            count += 1
            return await stack.enter_async_context(
                _running(cls, tmp_path / f"s{count}", access or _closed(), open_door)
            )

        yield start


def _closed() -> Access:
    return Access(grants=(Grant(hash=key_hash(KEY), key="tester"),))


@asynccontextmanager
async def _running(cls: type, path: Path, access: Access, open_door: bool) -> AsyncIterator[Running]:
    clock = FakeClock()
    flights = Flights(Path(f"{path}f"))
    serving = Serving(RequestChecks(AccessList(access, clock)), asyncio.get_running_loop(), "/prefix/", flights)
    control = Control(serving)
    instance = construct(service_of(cls), {})
    if open_door:
        serving.open(service_of(cls), instance)
        control.phase = Phase.READY
    public = server(App(serving), http=partial(ReplicaProtocol, serving), keep_alive_s=60, drain_s=1)
    private = server(control, http="httptools", keep_alive_s=60, drain_s=1)
    tasks = [
        asyncio.create_task(public.serve(sockets=[bound(f"unix:{path}")])),
        asyncio.create_task(private.serve(sockets=[bound(f"unix:{path}c")])),
    ]
    await until(lambda: public.started and private.started)
    async with _client(f"{path}", KEY) as client, _client(f"{path}c", None) as control_client:
        yield Running(serving, control, clock, instance, client, control_client, str(path))
    serving.close()
    public.should_exit = private.should_exit = True
    await asyncio.wait(tasks, timeout=BOUND_S)


def _client(path: str, key: str | None) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    transport = httpx2.AsyncHTTPTransport(uds=path, verify=False, limits=httpx2.Limits(max_connections=200))
    return httpx2.AsyncClient(transport=transport, base_url="http://replica", headers=headers, timeout=BOUND_S)


@pytest.fixture
def start_replica(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`start_replica(source, secrets=..., environ=..., **launch)` starts the class `work:Work` of that source."""
    started: list[Process] = []

    def begin(
        source: str, *, secrets: dict[str, str] | None = None, environ: dict[str, str] | None = None, **launch: Any
    ) -> Process:
        started.append(Process(tmp_path, source, secrets or {}, environ or {}, **launch))
        return started[-1]

    yield begin
    for process in started:
        process.close()
