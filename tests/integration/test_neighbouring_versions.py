"""Agents and servers of neighbouring versions, with real HTTP between them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path_
from tests.integration.api.world import REPLICA, World, populate, world_of
from tests.plans import keep_plan
from tests.replicas import replica_spec, route_to
from tests.samples import places, with_more
from tests.waiting import until

from kaon.agent.agent import Agent
from kaon.agent.control_plane import ControlPlaneClient
from kaon.clock import SystemClock
from kaon.drivers.fake import FakeDriver, FakePlace, FakeReplicas
from kaon.types.deployment import DeploymentSpec
from kaon.types.key import Access, Grant, Role
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.plan import EdgeStatus, FlatPlan, Plan, Report
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.route import Route
from kaon.types.traffic import Sample, Traffic

SPEC, ROUTE = replica_spec(), route_to(1)


def plan(key: str) -> Plan:
    """A plan of one replica that one key may call, with a part of every sort."""
    return Plan(
        cloud="local",
        replicas=(SPEC,),
        routes=(ROUTE,),
        standby=(SPEC.model_copy(update={"ordinal": 1, "id": "f" * 12}),),
        access={"default/shop": Access(grants=(Grant(hash="0" * 64, key=key),))},
        knobs={"default/shop": PlannedKnobs(force=Knobs(max_batch=4), trial=Knobs(max_batch=2))},
    )


@asynccontextmanager
async def served(app: Any, socket: Path) -> AsyncIterator[None]:
    """The app over HTTP on a unix socket."""
    server = uvicorn.Server(uvicorn.Config(app, uds=str(socket), lifespan="off", log_config=None))
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True  # long requests are ended
        await running


class Server:
    """A control plane that answers with plans written by `write`, under a name that cannot be derived from them."""

    def __init__(self, write: Callable[[Plan], Any], *, reads_etags: bool = True) -> None:
        self.write = write
        self.plan, self.name = plan("first"), "name-1"
        self.changed = asyncio.Event()
        self.reads_etags = reads_etags
        self.count: Counter[str] = Counter()
        self.reports: list[Report] = []
        self.app = Starlette(
            routes=[
                Path_("/api/v1/clouds/local/plan", self.get_plan),
                Path_("/api/v1/clouds/local/report", self.post_report, methods=["POST"]),
                Path_("/api/v1/clouds/local/calls", self.get_calls),
            ]
        )

    def change(self) -> None:
        self.plan, self.name = plan("second"), "name-2"
        self.changed.set()

    async def get_plan(self, request: Request) -> Response:
        self.count["plan"] += 1
        etag = request.headers.get("if-none-match", "") if self.reads_etags else f'"{request.query_params["after"]}"'
        while etag == f'"{self.name}"':
            self.changed.clear()
            await self.changed.wait()
        return JSONResponse(self.write(self.plan), headers={"etag": f'"{self.name}"'})

    async def post_report(self, request: Request) -> Response:
        self.reports.append(Report.model_validate_json(await request.body()))
        return Response(status_code=204)

    async def get_calls(self, request: Request) -> Response:
        await asyncio.Event().wait()
        return Response(status_code=204)


class Edge:
    """An edge that takes routes and serves no calls."""

    def __init__(self) -> None:
        self.routes: tuple[Route, ...] = ()

    async def apply(self, routes: tuple[Route, ...], endpoints: Any) -> None:
        self.routes = routes

    async def status(self) -> EdgeStatus:
        return EdgeStatus(running=True)

    async def in_flight(self, address: str) -> int | None:
        return None


def of_a_newer_kaon(value: Plan) -> Any:
    """The plan with one more field in it and in everything that it is made of."""
    document = with_more(value.model_dump(mode="json"), *places(value))
    (part,) = document["parts"].values()
    for made in (document, part, part["replicas"][0], part["route"], part["access"], part["knobs"]["trial"]):
        assert "of_a_newer_kaon" in made
    return document


def of_the_release_before(value: Plan) -> Any:
    return json.loads(value.flat().text())


SERVERS: dict[str, Callable[[], Server]] = {
    "with more fields": lambda: Server(of_a_newer_kaon),
    "of the release before": lambda: Server(of_the_release_before, reads_etags=False),
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_agent_works_with_a_server(kind: str, tmp_path: Path) -> None:
    server = SERVERS[kind]()
    clock, edge = SystemClock(), Edge()
    driver = FakeDriver(place := FakePlace(clock))

    def access_told() -> set[str]:
        return {grant.key for replica in place.replicas.values() for grant in replica.access.grants}

    async with served(server.app, tmp_path / "api.sock"):
        link = ControlPlaneClient(
            "http://localhost", "k", "local", tmp_path / "downloads", socket=tmp_path / "api.sock"
        )
        async with link:
            agent = Agent(
                "local", link, driver, edge, clock, tmp_path / "agent", "http://edge", replicas=FakeReplicas(place)
            )
            running = asyncio.create_task(agent.run())
            try:
                await until(lambda: any(r.replicas and r.replicas[0].phase is Phase.READY for r in server.reports))
                assert server.reports[-1].plan == "name-1"
                assert edge.routes == (ROUTE,)
                assert access_told() == {"first"}
                server.change()
                await until(lambda: access_told() == {"second"})
                await until(lambda: server.reports[-1].plan == "name-2")
            finally:
                running.cancel()
                await asyncio.wait([running])
    assert server.count["plan"] == 3, "one for each plan, and one that waits"
    kept = json.loads((tmp_path / "agent" / "plan.json").read_bytes())
    assert kept["name"] == "name-2"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await populate(made)
        await made.key("agent", Role.AGENT, cloud="local")
        yield made


def agent_of(world: World) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(world.settings.home / "api.sock"), verify=False),
        base_url="http://localhost/api/v1/clouds/local",
        headers={"authorization": f"Bearer {world.keys['agent']}"},
        timeout=60,
    )


async def test_a_server_takes_reports_and_traffic_of_an_agent_with_more_fields(world: World) -> None:
    app: FastAPI = world.app
    names = {"name": "web-1-0", "workspace": "default", "deployment": "web", "revision": 1}
    report = Report(cloud="local", replicas=(ReplicaStatus(id=REPLICA, **names, phase=Phase.READY),))
    sample = Sample(workspace="default", deployment="web", revision=1, at_s=world.clock.now(), span_s=1.0, arrivals=3)
    traffic = Traffic(cloud="local", samples=(sample,))
    async with served(app, world.settings.home / "api.sock"), agent_of(world) as agent:
        for path, value in (("/report", report), ("/traffic", traffic)):
            document = with_more(value.model_dump(mode="json"), *places(value))
            answer = await agent.post(path, json=document)
            assert answer.is_success, answer.text
    assert (await world.store.get("cloud", "", "local")).status.report == report
    assert app.state.context.traffic.since("default", "web", 0) == [sample]


async def test_an_agent_of_the_release_before_gets_the_plan_as_it_reads_it_and_by_its_own_name(world: World) -> None:
    await world.store.create("deployment", "default", "shop", DeploymentSpec(template={"artifact": SPEC.artifact}))
    await keep_plan(world.store, plan("first"))
    async with served(world.app, world.settings.home / "api.sock"), agent_of(world) as agent:
        answer = await agent.get("/plan")
        document = answer.json()
        assert document.keys() == FlatPlan.model_fields.keys()
        assert document["access"]["default/shop"].keys() == {"public", "grants"}
        assert document["knobs"]["default/shop"]["trial"].keys() == {"max_batch", "max_wait_s", "concurrency"}
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        own_name = hashlib.sha256(canonical.encode()).hexdigest()
        assert (await agent.get("/plan", params={"after": own_name, "wait_s": 0})).status_code == 304
        await keep_plan(world.store, plan("second"))
        again = await agent.get("/plan", params={"after": own_name})
        assert again.json()["access"]["default/shop"]["grants"][0]["key"] == "second"
