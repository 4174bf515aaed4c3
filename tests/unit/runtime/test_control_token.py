"""A control address that others can reach requires the replica's token; a unix socket requires none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from kaon.agent.act.workloads import ControlTokens
from kaon.agent.observe.probes import ControlSockets
from kaon.clock import FakeClock
from kaon.drivers.port import Addresses
from kaon.errors import Unavailable
from kaon.runtime.access_list import AccessList
from kaon.runtime.control import Control
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.server import bound, server
from kaon.runtime.serving import Serving
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.refusals import Refusals
from kaon.types.shadow import Sampling

REPLICA, TOKEN = "0123456789ab", "a" * 64
CLOSED = (
    *("GET /figures", "GET /metrics", "GET /answers", "GET /nothing", "POST /ready", "HEAD /ready", "GET /ready/"),
    *("PUT /access", "PUT /knobs", "PUT /refusals", "PUT /sampling"),
)

Serve = Callable[[str], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a control address that asks for a token; its host and port."""
    running = []

    async def begin(token: str) -> str:
        serving = Serving(RequestChecks(AccessList(Access(), FakeClock())), asyncio.get_running_loop())
        listener = bound("127.0.0.1:0")
        private = server(Control(serving, token=token), http="httptools", keep_alive_s=60, drain_s=1)
        running.append((private, asyncio.create_task(private.serve(sockets=[listener])), serving))
        host, port = listener.getsockname()
        return f"{host}:{port}"

    yield begin
    for private, task, serving in running:
        private.should_exit = True
        await task
        serving.close()


@pytest.mark.parametrize("call", CLOSED)
@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer wrong", f"bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN])
async def test_without_the_token_only_health_is_readable(serve: Serve, call: str, shown: str | None) -> None:
    address, (method, path) = await serve(TOKEN), call.split()
    async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
        headers = {} if shown is None else {"authorization": shown}
        answer = await client.request(method, path, headers=headers, content=b"{}" if method == "PUT" else None)
        assert answer.status_code == 401
        assert (await client.get("/live")).status_code == 200
        assert (await client.get("/ready")).json()["phase"] == "Loading"


async def test_an_agent_sends_the_token_of_each_replica_and_a_new_agent_derives_it_again(
    serve: Serve, tmp_path: Path
) -> None:
    first = ControlTokens.kept_in(tmp_path / "agent" / "control.key", Addresses.TCP)
    address = await serve(first.of(REPLICA))
    tokens = ControlTokens.kept_in(tmp_path / "agent" / "control.key", Addresses.TCP)
    sockets = ControlSockets(tokens.at)
    with pytest.raises(Unavailable, match="401"):
        await sockets.tune(address, Knobs(concurrency=1))
    tokens.follow({REPLICA: address})
    await sockets.admit(address, Access(public=True))
    await sockets.refuse(address, Refusals(request_ids=("bad",)))
    await sockets.sample(address, Sampling(share=0.5))
    assert (await sockets.answers(address, 0)).answers == ()
    await sockets.figures(address)
    health = await sockets.health(address)
    assert health.access == Access(public=True).named().version
    assert health.refusals == Refusals(request_ids=("bad",)).named().version
    tokens.follow({"another00000": address})
    with pytest.raises(Unavailable, match="401"):
        await sockets.tune(address, Knobs(concurrency=1))
    sockets.let_go(address)


async def test_a_replica_without_a_token_requires_none(serve: Serve) -> None:
    address = await serve("")
    async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.get("/figures")).status_code == 200


def test_tokens_differ_by_replica_and_by_agent_and_sockets_have_none(tmp_path: Path) -> None:
    one, other = (ControlTokens.kept_in(tmp_path / name, Addresses.TCP) for name in ("one.key", "other.key"))
    assert len({one.of(REPLICA), one.of("another00000"), other.of(REPLICA)}) == 3
    assert (tmp_path / "one.key").stat().st_mode & 0o777 == 0o600
    sockets = ControlTokens.kept_in(tmp_path / "one.key", Addresses.SOCKET)
    assert sockets.of(REPLICA) == ""
    sockets.follow({REPLICA: "unix:/r/control.sock"})
    assert sockets.at("unix:/r/control.sock") == ""
