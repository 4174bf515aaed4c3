"""The API on a real server and unix socket: streams, and what happens when either side leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tests.plans import keep_plan
from tests.waiting import until

from kaon.api import replicas
from kaon.types.key import KeyStatus, Role
from kaon.types.plan import Plan

from .world import REPLICA, World, populate, world_of

LOGS = "/workspaces/default/deployments/web/logs"


@asynccontextmanager
async def served(app: Any, socket: Path) -> AsyncIterator[None]:
    """The app on a unix socket, its lifespan left to the world that made it."""
    config = uvicorn.Config(
        app,
        uds=str(socket),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        await running


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        await made.key("agent", Role.AGENT, cloud="local")
        async with served(made.app, tmp_path / "api.sock"):
            yield made


def connect(world: World, key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(world.settings.home / "api.sock"), verify=False),
        base_url="http://kaon.local/api/v1",
        headers={"authorization": f"Bearer {world.keys.get(key, key)}"},
        timeout=60,
    )


class Agent:
    """Answers calls for logs with the lines that a test puts in."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.calls: list[dict[str, Any]] = []
        self.let_go = asyncio.Event()

    async def run(self) -> None:
        async with connect(self._world, "agent") as client:
            while True:
                answer = await client.get("/clouds/local/calls", params={"wait_s": 5})
                if answer.status_code == 200:
                    self.calls.append(answer.json())
                    try:
                        await client.post(f"/clouds/local/calls/{self.calls[-1]['id']}", content=self._content())
                    except httpx2.HTTPError:
                        pass
                    self.let_go.set()

    async def _content(self) -> AsyncIterator[bytes]:
        while (text := await self.lines.get()) is not None:
            yield json.dumps({"replica": REPLICA, "text": text, "at": self._world.clock.now()}).encode() + b"\n"


@pytest.fixture
async def agent(world: World) -> Any:
    made = Agent(world)
    running = asyncio.ensure_future(made.run())
    yield made
    running.cancel()


async def test_logs_come_from_the_agent_with_the_replicas_name(world: World, agent: Agent) -> None:
    for text in ("one", "two ERROR", "three"):
        agent.lines.put_nowait(text)
    agent.lines.put_nowait(None)
    async with connect(world, "root") as root:
        answer = await root.get(LOGS, params={"tail": 7, "grep": "ERROR"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"replica": "web-1-0", "text": "two ERROR", "at": world.clock.now()}
    ]
    assert agent.calls[0]["call"] == "logs"
    assert agent.calls[0]["arguments"] == {
        "replicas": [REPLICA],
        "tail": 7,
        "follow": False,
        "since_s": None,
        "grep": "ERROR",
        "level": None,
    }


async def test_the_first_line_comes_while_the_log_goes_on_and_so_does_each_next_one(world: World, agent: Agent) -> None:
    async with connect(world, "root") as root:
        await root.get("/whoami")  # the connection is made
        agent.lines.put_nowait("first")
        async with root.stream("GET", LOGS, params={"follow": True}) as answer:
            lines = answer.aiter_lines()
            assert "first" in await anext(lines)
            for number in range(5):
                agent.lines.put_nowait(f"line {number}")
                assert f"line {number}" in await anext(lines)
            agent.lines.put_nowait(None)
            assert [line async for line in lines] == []


async def test_when_the_reader_leaves_the_agent_is_let_go_and_nothing_is_kept(world: World, agent: Agent) -> None:
    async with connect(world, "root") as root:
        agent.lines.put_nowait("first")
        async with root.stream("GET", LOGS, params={"follow": True}) as answer:
            await anext(answer.aiter_lines())

    def let_go() -> bool:  # a quiet service: the agent learns it at the latest at its next line
        agent.lines.put_nowait("nobody reads this")
        return agent.let_go.is_set()

    await until(let_go)
    await until(lambda: not world.app.state.context.broker._open)
    assert agent.let_go.is_set()


async def test_following_ends_when_the_key_does(world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_RECHECK_S", 0.05)
    async with connect(world, "root") as root:
        made = await root.post("/workspaces/default/keys", json={"name": "reader", "role": "viewer"})
        async with connect(world, made.json()["key"]) as reader:
            agent.lines.put_nowait("first")
            async with reader.stream("GET", LOGS, params={"follow": True}) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                assert (await root.delete("/workspaces/default/keys/reader")).status_code == 204
                assert [line async for line in lines] == []


async def test_a_key_follows_so_many_logs_at_once(world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.api.stream_limits.MOST", 1)
    async with connect(world, "root") as root, connect(world, await world.key("reader", Role.VIEWER)) as reader:
        agent.lines.put_nowait("first")
        async with reader.stream("GET", LOGS, params={"follow": True}) as answer:
            await anext(answer.aiter_lines())
            assert (await reader.get(LOGS)).status_code == 429
            monkeypatch.setattr("kaon.api.broker.PICKUP_S", 0.05)
            assert (await root.get(LOGS)).status_code == 503, "another key is asked for, though this agent is busy"
        uid = (await world.resource_of_key("reader")).uid
        await until(lambda: uid not in world.app.state.context.streams._open)


@pytest.mark.parametrize("path", ["plan", "calls"])
async def test_a_poll_of_an_agent_ends_with_its_key(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.api.clouds.CHECK_S", 0.05)
    async with connect(world, await world.key("leaving", Role.AGENT, cloud="local")) as agent:
        params = {"wait_s": 30}
        if path == "plan":
            params["after"] = (await agent.get("/clouds/local/plan")).headers["etag"].strip('"')
        waiting = asyncio.ensure_future(agent.get(f"/clouds/local/{path}", params=params))
        await until(lambda: world.app.state.context.streams._open)
        key = await world.resource_of_key("leaving")
        await world.store.update_status(key, KeyStatus(revoked_at=world.clock.now()))
        assert (await waiting).status_code == 401


async def test_an_absent_agent_is_a_503_with_the_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.api.broker.PICKUP_S", 0.05)
    async with connect(world, "root") as root:
        answer = await root.get(LOGS)
    assert answer.status_code == 503
    assert "'local'" in answer.json()["detail"]
    assert not world.app.state.context.broker._open


async def test_an_agent_cannot_answer_with_lines_of_other_replicas_or_with_no_lines(world: World) -> None:
    async with connect(world, "root") as root, connect(world, "agent") as agent:
        reading = asyncio.ensure_future(root.get(LOGS))
        call = (await agent.get("/clouds/local/calls", params={"wait_s": 5})).json()
        other = b'{"replica": "ffffffffffff", "text": "of another"}\nnot json\n{"replica": 1}\n[]\n'
        good = b'{"replica": "%s", "text": "own"}\n' % REPLICA.encode()
        await agent.post(f"/clouds/local/calls/{call['id']}", content=other + good)
        answer = await reading
    assert [json.loads(line)["text"] for line in answer.text.splitlines()] == ["own"]


async def test_a_plan_reaches_a_waiting_agent_over_the_wire(world: World) -> None:
    async with connect(world, "agent") as agent:
        known = {"if-none-match": (await agent.get("/clouds/local/plan")).headers["etag"]}
        waiting = asyncio.ensure_future(agent.get("/clouds/local/plan", params={"wait_s": 30}, headers=known))
        await until(lambda: ("plan", "", "local") in world.app.state.context.snapshot._waiting)
        await keep_plan(world.store, Plan(cloud="local"))
        assert (await waiting).json()["replicas"] == []


async def test_artifacts_go_up_and_come_down_in_pieces(world: World) -> None:
    from .world import DIGEST, artifact_bytes

    async def pieces() -> AsyncIterator[bytes]:
        for byte in artifact_bytes(b"# streamed\n"):
            yield bytes([byte])

    async with connect(world, "root") as root, connect(world, "agent") as agent:
        assert (await root.post("/workspaces/default/artifacts", content=pieces())).status_code == 201
        async with agent.stream("GET", f"/clouds/local/artifacts/{DIGEST}") as answer:
            assert int(answer.headers["content-length"]) == len(artifact_bytes())
            assert b"".join([c async for c in answer.aiter_bytes()]) == artifact_bytes()


async def test_a_sender_that_breaks_off_leaves_nothing(world: World) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ConnectionResetError

    before = {p for p in world.settings.home.rglob("*") if p.is_file()}
    async with connect(world, "root") as root:
        with pytest.raises(ConnectionResetError):
            await root.post("/workspaces/default/artifacts", content=broken())
    async with connect(world, "root") as root:
        assert (await root.get("/health")).status_code == 200
    assert {p for p in world.settings.home.rglob("*") if p.is_file()} == before
