"""Streams, bodies, retries, and replicas that go, through a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx2
import pytest
import websockets

from .world import World, eventually, route


async def _answer(send: Any, status: int, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def test_the_first_event_of_a_stream_passes_at_once_and_streams_outlast_the_timeout(world: World) -> None:
    go_on = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    await world.serve(await world.replica(app=stream), stream_paths=("/tokens", "/of/{topic}"), timeout_s=0.2)
    for path in ("/shop/tokens", "/shop/of/tea"):
        go_on.clear()
        async with world.client.stream("POST", path) as answer:
            chunks = answer.aiter_raw()
            assert await asyncio.wait_for(anext(chunks), 2) == b"data: 1\n\n"
            await time_is_over(world)
            go_on.set()
            assert await asyncio.wait_for(anext(chunks), 2) == b"data: 2\n\n"


async def time_is_over(world: World) -> None:
    """Until a call that is no stream, and hangs, has been given up by the edge."""
    with contextlib.suppress(httpx2.HTTPError):
        assert (await world.client.get("/shop/other")).status_code == 504


async def test_websockets_echo_both_ways_and_outlast_the_timeout(world: World) -> None:
    async def socket(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.Event().wait()
        assert scope["path"] == "/chat"
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    await world.serve(await world.replica(app=socket), timeout_s=0.2)
    async with websockets.connect(f"ws://127.0.0.1:{world.settings.port}/shop/chat") as ws:
        await ws.send("hello")
        assert await ws.recv() == "HELLO"
        await time_is_over(world)
        await ws.send("still here")
        assert await ws.recv() == "STILL HERE"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_5_mb_passes_whole(world: World, chunked: bool) -> None:
    await world.serve(await world.replica())
    body = bytes(5_000_000)

    async def pieces() -> Any:
        for i in range(0, len(body), 100_000):
            yield body[i : i + 100_000]

    answer = await world.client.post("/shop", content=pieces() if chunked else body)
    assert answer.headers["x-size"] == "5000000"


async def _broken(scope: Any, receive: Any, send: Any) -> None:
    """Takes a call and breaks off before it answers, as a replica that is killed does."""
    scope["extensions"] = {}
    await receive()
    raise RuntimeError("end")


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, 503)


@pytest.mark.parametrize("trouble", [_busy])
@pytest.mark.parametrize(
    ("method", "path", "again"),
    [
        ("GET", "/shop", True),
        ("HEAD", "/shop", True),
        ("PUT", "/shop/x", True),
        ("DELETE", "/shop/x", True),
        ("OPTIONS", "/shop/x", True),
        ("POST", "/shop/similar", True),
        ("POST", "/shop/item/7", True),
        ("POST", "/shop", False),
        ("POST", "/shop/similar/x", False),
        ("PATCH", "/shop/x", False),
        ("POST", "/shop/tokens", False),
        ("GET", "/shop/tokens", True),
    ],
)
async def test_only_calls_that_may_happen_twice_are_sent_to_another_replica(
    world: World, trouble: Any, method: str, path: str, again: bool
) -> None:
    one, two = await world.replica("one", trouble), await world.replica("two", trouble)
    await world.serve(one, two, idempotent_paths=("/similar", "/item/{id}"), stream_paths=("/tokens",))
    answer = await world.client.request(method, path)
    calls = len(one.calls) + len(two.calls)
    assert answer.status_code == 503
    if again:
        assert one.calls
        assert two.calls
    else:
        assert calls == 1


async def test_a_call_that_reached_no_replica_is_sent_to_another_whatever_its_method(world: World) -> None:
    alive, dead = await world.replica("alive"), await world.replica("dead")
    await world.serve(alive, dead)
    await dead.stop()
    for _ in range(30):
        assert (await world.client.post("/shop")).status_code == 200
    assert len(alive.calls) == 30


async def test_replicas_that_leave_under_load_lose_nothing(world: World) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02)
        await _answer(send, 200)

    replicas = [await world.replica(f"r{i}", slow) for i in range(3)]
    await world.serve(*replicas)
    statuses: list[int] = []
    done = asyncio.Event()

    async def client() -> None:
        while not done.is_set():
            statuses.append((await world.client.post("/shop")).status_code)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for round_ in range(3):
        leaving, *rest = replicas
        await world.serve(*rest)

        async def quiet(address: str = leaving.endpoint.address) -> bool:
            return not await world.edge.in_flight(address)

        await eventually(quiet)
        await leaving.stop()
        fresh = await world.replica(f"new{round_}", slow)
        replicas = [*rest, fresh]
        await world.serve(*replicas)
        seen = len(fresh.calls)

        async def used(replica: Any = fresh, before: int = seen) -> bool:
            return len(replica.calls) > before

        await eventually(used)
    done.set()
    await asyncio.gather(*clients)
    assert len(statuses) > 100
    assert set(statuses) == {200}


async def test_in_flight_counts_what_a_leaving_replica_still_has(world: World) -> None:
    leaving = await world.leaving()
    assert (await world.client.post("/shop")).status_code == 200
    assert await world.edge.in_flight(leaving.old.endpoint.address) == 1
    await leaving.is_let_go()
    assert await world.edge.in_flight("unix:/nowhere") is None


async def test_a_deployment_that_goes_leaves_no_cluster_and_no_file(world: World) -> None:
    replica = await world.replica()
    await world.serve(replica)
    await world.edge.apply((), {})
    assert (await world.client.get("/shop")).status_code == 404

    async def gone() -> bool:
        return not world.edge.layout.all_endpoints()

    await eventually(gone)
    await world.edge.apply((route(),), {("default", "shop"): (replica.endpoint,)})
    assert (await world.client.get("/shop")).status_code == 200
