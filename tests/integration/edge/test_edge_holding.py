"""Calls that come while no replica is ready, through a real Envoy to the activator and on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import websockets
from tests.waiting import lasts, until

from kaon.clock import SystemClock
from kaon.edge.activator import Activator
from kaon.edge.answers import ActivatorResponse, StartFailed
from kaon.edge.heads import Head
from kaon.edge.waiting import HoldTerms, WaitingRoom
from kaon.errors import Unauthenticated

from .world import Replica, World, echo, route

KEY = ("default", "shop")


class Everybody:
    """A check that refuses one wrong key."""

    def admit(self, head: Head) -> ActivatorResponse | None:
        if head.fields.get(b"authorization") == b"Bearer wrong":
            raise Unauthenticated("The key is not known here, or was revoked.")
        return None


class Zero:
    """A deployment with no replica, and what wakes it."""

    def __init__(self, world: World, activator: Activator, hold_s: float, fields: dict[str, Any]) -> None:
        self.world, self.activator, self.hold_s, self.fields = world, activator, hold_s, fields

    async def ready(self, *replicas: Replica) -> None:
        """As an agent does it: those who wait first, then the edge."""
        self.activator.set_replicas(KEY, [replica.endpoint.address for replica in replicas])
        await self.world.serve(*replicas, hold_s=self.hold_s, **self.fields)

    async def held(self, count: int) -> None:
        async def so() -> bool:
            return self.activator.held.get(KEY, 0) == count

        await until(so)


@asynccontextmanager
async def zero(world: World, hold_s: float = 20.0, **fields: Any) -> AsyncIterator[Zero]:
    """A deployment at zero, whose calls are held."""
    activator = Activator(SystemClock())
    running = asyncio.create_task(activator.run())
    try:
        await activator.open(KEY, world.edge.layout.activator(*KEY), HoldTerms(Everybody(), hold_s))
        it = Zero(world, activator, hold_s, fields)
        await it.ready()
        yield it
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_call_at_zero_waits_for_the_first_replica_and_is_answered_by_it(world: World) -> None:
    async with zero(world) as it:
        call = asyncio.create_task(world.client.get("/shop/tea?x=1"))
        await it.held(1)
        replica = await world.replica()
        await it.ready(replica)
        answer = await call
        assert answer.status_code == 200
        assert answer.text.startswith("GET /tea?x=1")
        assert replica.calls == [("GET", "/tea")]
        await it.held(0)


async def test_fifty_calls_at_once_are_all_answered_once(world: World) -> None:
    async with zero(world) as it:
        calls = [asyncio.create_task(world.client.post("/shop", content=b"x" * n)) for n in range(50)]
        await it.held(50)
        replicas = [await world.replica(name) for name in ("a", "b")]
        await it.ready(*replicas)
        answers = await asyncio.gather(*calls)
        assert [(a.status_code, a.headers["x-size"]) for a in answers] == [(200, str(n)) for n in range(50)]
        assert sum(len(replica.calls) for replica in replicas) == 50
        assert min(len(replica.calls) for replica in replicas) == 25


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_5_mb_waits_where_it_comes_from_and_arrives_whole(world: World, chunked: bool) -> None:
    body = bytes(range(256)) * 20_000

    async def pieces() -> Any:
        for i in range(0, len(body), 100_000):
            yield body[i : i + 100_000]

    async with zero(world) as it:
        call = asyncio.create_task(world.client.post("/shop", content=pieces() if chunked else body))
        await it.held(1)
        await it.ready(await world.replica())
        assert (await call).headers["x-size"] == str(len(body))


async def test_a_websocket_opened_at_zero_talks_both_ways_and_lasts(world: World) -> None:
    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async with zero(world, timeout_s=0.2) as it:
        opening = asyncio.create_task(
            websockets.connect(f"ws://127.0.0.1:{world.settings.port}/shop/chat").__aenter__()
        )
        await it.held(1)
        await it.ready(await world.replica(app=socket))
        ws = await opening
        await ws.send("hello")
        assert await ws.recv() == "HELLO"
        await lasts(0.4)
        await ws.send("x" * 300_000)
        assert await ws.recv() == "X" * 300_000
        await ws.close()


async def test_a_stream_opened_at_zero_passes_event_by_event(world: World) -> None:
    go_on = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async with zero(world, stream_paths=("/tokens",)) as it, asyncio.TaskGroup() as group:

        async def read() -> None:
            async with world.client.stream("GET", "/shop/tokens") as answer:
                chunks = answer.aiter_raw()
                assert await anext(chunks) == b"data: 1\n\n"
                go_on.set()
                assert await anext(chunks) == b"data: 2\n\n"

        group.create_task(read())
        await it.held(1)
        await it.ready(await world.replica(app=stream))


async def test_a_stranger_is_refused_at_once_and_nobody_waits(world: World) -> None:
    async with zero(world) as it:
        answer = await world.client.get("/shop", headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        refused = await world.client.post("/shop", content=bytes(3_000_000), headers={"authorization": "Bearer wrong"})
        assert refused.status_code == 401
        assert it.activator.held == {}
        assert it.activator.turned_away == {KEY: {"4xx": 2}}


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_when_the_time_is_over_the_caller_is_told_once_and_when_to_come_again(world: World, method: str) -> None:
    async with zero(world, hold_s=0.3) as it:
        it.activator.set_replicas(KEY, [], "A replica is loading.")
        begun = asyncio.get_running_loop().time()
        answer = await world.client.request(method, "/shop", headers={"x-request-id": "r-1"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "x-envoy-ratelimited" not in answer.headers
        assert asyncio.get_running_loop().time() - begun < 3  # it was not sent again, to wait as long once more
        if method != "HEAD":
            problem = answer.json()
            assert problem["code"] == "no-ready-replica"
            assert "A replica is loading." in problem["detail"]
            assert "kaon describe shop" in problem["hint"]
            assert problem["request_id"] == "r-1"
        await it.held(0)


async def test_a_start_that_fails_for_good_is_told_before_the_time_is_over(world: World) -> None:
    async with zero(world, hold_s=60) as it:
        calls = [asyncio.create_task(world.client.get("/shop")) for _ in range(3)]
        await it.held(3)
        it.activator.set_replicas(KEY, [], error=StartFailed("The service ends at its start with exit code 3."))
        for answer in await asyncio.gather(*calls):
            assert answer.status_code == 503
            assert answer.json()["code"] == "start-failed"
        assert (await world.client.get("/shop")).json()["code"] == "start-failed"
        it.activator.set_replicas(KEY, [])
        call = asyncio.create_task(world.client.get("/shop"))
        await it.held(1)
        await it.ready(await world.replica())
        assert (await call).status_code == 200


@pytest.mark.parametrize("size", [0, 200_000])  # Envoy gets the answer while it still reads from the caller
async def test_a_caller_that_hangs_up_is_not_held_any_more(world: World, size: int) -> None:
    async with zero(world) as it:
        async with httpx2.AsyncClient(timeout=60, verify=False) as client:
            call = asyncio.create_task(client.post(f"{world.url}/shop", content=bytes(size)))
            await it.held(1)
            call.cancel()
        await it.held(0)
        assert call.cancelled()


async def test_a_replica_that_goes_hands_over_to_the_activator_without_a_gap(world: World) -> None:
    async with zero(world) as it:
        outcomes: list[int] = []
        stopped = asyncio.Event()

        async def caller(method: str) -> None:
            while not stopped.is_set():
                outcomes.append((await world.client.request(method, "/shop")).status_code)

        callers = [asyncio.create_task(caller(method)) for method in ("GET", "POST") * 4]
        calls = 0
        for number in range(6):
            replica = await world.replica(f"r{number}")
            await it.ready(replica)

            async def served(replica: Replica = replica) -> bool:
                return len(replica.calls) >= 30

            await until(served)
            await it.ready()

            async def quiet(replica: Replica = replica) -> bool:
                return not (await world.edge.in_flight()).get(replica.endpoint.address)

            await until(quiet)
            await it.held(8)
            calls += len(replica.calls)
        last = await world.replica("last")
        await it.ready(last)
        stopped.set()
        await asyncio.gather(*callers)
        assert set(outcomes) == {200}
        assert len(outcomes) == calls + len(last.calls)


async def test_a_ready_replica_that_cannot_be_reached_is_passed_over(world: World) -> None:
    async with zero(world) as it:
        calls = [asyncio.create_task(world.client.post("/shop")) for _ in range(10)]
        await it.held(10)
        gone, alive = await world.replica("gone"), await world.replica("alive")
        await gone.stop()
        it.activator.set_replicas(KEY, [gone.endpoint.address])
        it.activator.set_replicas(KEY, [gone.endpoint.address, alive.endpoint.address])
        it.activator.set_replicas(KEY, [alive.endpoint.address])
        assert {a.status_code for a in await asyncio.gather(*calls)} == {200}
        assert len(alive.calls) == 10


async def test_a_new_revision_at_zero_loses_no_caller(world: World) -> None:
    async with zero(world) as it:
        codes: list[int] = []
        stopped = asyncio.Event()

        async def stranger() -> None:
            while not stopped.is_set():
                codes.append((await world.client.get("/shop", headers={"authorization": "Bearer wrong"})).status_code)

        calling = asyncio.create_task(stranger())
        for revision in range(2, 8):
            fresh = route(revisions=(revision,), hold_s=it.hold_s)
            await world.edge.apply((fresh,), {KEY: ()})
        stopped.set()
        await calling
        assert set(codes) == {401}


async def test_without_any_revision_calls_wait_as_well(world: World) -> None:
    async with zero(world) as it:
        await world.edge.apply((route(revisions=(), hold_s=it.hold_s),), {KEY: ()})
        call = asyncio.create_task(world.client.get("/shop"))
        await it.held(1)
        await it.ready(await world.replica())
        assert (await call).status_code == 200


async def test_an_activator_that_stops_gives_back_all_calls_that_wait_and_the_next_one_holds_them(world: World) -> None:
    async with zero(world) as first:
        calls = [asyncio.create_task(world.client.request(m, "/shop")) for m in ("GET", "POST") * 15]
        await first.held(30)
    async with zero(world) as second:
        await second.held(30)
        await second.ready(replica := await world.replica(app=echo))
        assert {a.status_code for a in await asyncio.gather(*calls)} == {200}
        assert len(replica.calls) == 30


async def test_an_activator_that_is_killed_and_comes_back_holds_who_may_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WaitingRoom, "drop", lambda room: [call.transport.abort() for call in list(room.calls)])
    async with zero(world, retry_paths=("/again",)) as first:
        calls = [asyncio.create_task(world.client.get("/shop/again")) for _ in range(30)]
        once = asyncio.create_task(world.client.get("/shop"))
        await first.held(31)
    assert json.loads((await once).text)["code"] == "interrupted"  # it is unknown whether it was begun
    async with zero(world, retry_paths=("/again",)) as second:
        await second.held(30)
        await second.ready(await world.replica(app=echo))
        assert {a.status_code for a in await asyncio.gather(*calls)} == {200}


async def test_http2_clients_are_held_too(world: World) -> None:
    async with zero(world) as it:
        urls = [f"{world.url}/shop/{number}" for number in range(5)]
        options = ["-sS", "--http2-prior-knowledge", "--parallel", "--parallel-immediate"]
        flags = ["-w", "%{http_version} %{http_code}\n"]
        curl = await asyncio.create_subprocess_exec("curl", *options, *urls, *flags, stdout=asyncio.subprocess.PIPE)
        await it.held(5)
        await it.ready(await world.replica())
        problem, _ = await curl.communicate()
        assert problem.count(b"2 200\n") == 5
