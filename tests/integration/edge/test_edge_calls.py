"""Streams, bodies, retries, and replicas that go, through a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx2
import pytest
import websockets
from tests.waiting import lasts, until

from kaon.types.route import NOT_BEGUN_HEADER

from .world import World, broken, route


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
            assert await anext(chunks) == b"data: 1\n\n"
            await time_is_over(world)
            go_on.set()
            assert await anext(chunks) == b"data: 2\n\n"


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


async def _leaving(scope: Any, receive: Any, send: Any) -> None:
    """Refuses a call before it is begun, as a replica that stops does."""
    await send({"type": "http.response.start", "status": 503, "headers": [(NOT_BEGUN_HEADER.encode(), b"1")]})
    await send({"type": "http.response.body", "body": b""})


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, 503)


_METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"]
_RETRY = {"retry_paths": ("/similar", "/item/{id}", "/news"), "stream_paths": ("/tokens", "/news")}


@pytest.mark.parametrize("hold_s", [0.0, 5.0])
@pytest.mark.parametrize("path", ["/shop", "/shop/x", "/shop/similar/x", "/shop/tokens"])
async def test_a_call_that_breaks_off_is_seen_by_one_replica_whatever_its_verb(
    world: World, path: str, hold_s: float
) -> None:
    """It may be what ends replicas: sent again, it would end them all."""
    replicas = [await world.replica(name, broken) for name in ("one", "two", "three")]
    await world.serve(*replicas, **_RETRY, hold_s=hold_s)
    for method in _METHODS:
        answer = await world.client.request(method, path, headers={"x-request-id": "r-1"})
        assert sum(len(replica.calls) for replica in replicas) == 1, method
        assert answer.status_code == 502
        assert "retry-after" not in answer.headers
        assert method == "HEAD" or answer.json()["code"] == "interrupted"
        for replica in replicas:
            replica.calls.clear()


async def test_a_websocket_that_breaks_off_is_seen_by_one_replica(world: World) -> None:
    replicas = [await world.replica(name, broken) for name in ("one", "two", "three")]
    await world.serve(*replicas, **_RETRY)
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(f"ws://127.0.0.1:{world.settings.port}/shop/tokens").__aenter__()
    assert sum(len(replica.calls) for replica in replicas) == 1


@pytest.mark.parametrize("trouble", [broken, _busy])
@pytest.mark.parametrize("path", ["/shop/similar", "/shop/item/7", "/shop/news"])
async def test_an_endpoint_that_says_so_is_asked_at_three_replicas_at_most(
    world: World, trouble: Any, path: str
) -> None:
    replicas = [await world.replica(f"r{number}", trouble) for number in range(5)]
    await world.serve(*replicas, **_RETRY)
    answer = await world.client.post(path)
    assert answer.status_code == (503 if trouble is _busy else 502)
    assert [len(replica.calls) for replica in replicas].count(1) == 3
    assert sum(len(replica.calls) for replica in replicas) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_no_replica_has_begun_is_sent_to_another(world: World, method: str) -> None:
    one, two = await world.replica("one", _leaving), await world.replica("two")
    await world.serve(one, two)
    answers = [await world.client.request(method, "/shop") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert one.calls
    assert len(two.calls) == 20
    await world.serve(one)
    refused = await world.client.request(method, "/shop")
    assert refused.status_code == 503
    assert NOT_BEGUN_HEADER not in refused.headers


async def test_a_busy_answer_of_the_service_is_the_callers(world: World) -> None:
    one, two = await world.replica("one", _busy), await world.replica("two", _busy)
    await world.serve(one, two)
    assert (await world.client.get("/shop")).status_code == 503
    assert len(one.calls) + len(two.calls) == 1


async def test_a_call_that_reached_no_replica_is_sent_to_another_whatever_its_method(world: World) -> None:
    alive, dead = await world.replica("alive"), await world.replica("dead")
    await world.serve(alive, dead)
    await dead.stop()
    for _ in range(30):
        assert (await world.client.post("/shop")).status_code == 200
    assert len(alive.calls) == 30


async def test_replicas_that_leave_under_load_lose_nothing(world: World) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await lasts(0.02)
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
            return not (await world.edge.in_flight()).get(address)

        await until(quiet)
        await leaving.stop()
        fresh = await world.replica(f"new{round_}", slow)
        replicas = [*rest, fresh]
        await world.serve(*replicas)
        count = len(fresh.calls)

        async def used(replica: Any = fresh, before: int = count) -> bool:
            return len(replica.calls) > before

        await until(used)
    done.set()
    await asyncio.gather(*clients)
    assert len(statuses) > 100
    assert set(statuses) == {200}


async def test_in_flight_counts_what_a_leaving_replica_still_has(world: World) -> None:
    leaving = await world.leaving()
    assert (await world.client.post("/shop")).status_code == 200
    assert (await world.edge.in_flight()).get(leaving.old.endpoint.address) == 1
    await leaving.is_let_go()
    assert (await world.edge.in_flight()).get("unix:/nowhere") is None


async def test_a_deployment_that_goes_leaves_no_cluster_and_no_file(world: World) -> None:
    replica = await world.replica()
    await world.serve(replica)
    await world.edge.apply((), {})
    assert (await world.client.get("/shop", headers={"authorization": "Bearer k"})).status_code == 404

    async def gone() -> bool:
        return not world.edge.layout.all_endpoints()

    await until(gone)
    await world.edge.apply((route(),), {("default", "shop"): (replica.endpoint,)})
    assert (await world.client.get("/shop")).status_code == 200
