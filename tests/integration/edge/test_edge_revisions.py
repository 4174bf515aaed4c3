"""Revisions at the edge: exact shares, calls that name one, and copies for a shadow."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any

import pytest
from tests.waiting import forever, until

from kaon.types.route import Backend, Mirror

from .world import Replica, World, echo, route

KEY = ("default", "shop")


def backends(**shares: int) -> tuple[Backend, ...]:
    return tuple(Backend(revision=int(name[1:]), weight=share) for name, share in shares.items())


async def serve(world: World, *replicas: Replica, **fields: Any) -> None:
    route_ = route().model_copy(update=fields)
    await world.edge.apply((route_,), {KEY: tuple(r.endpoint for r in replicas)})


async def test_shares_are_exact(world: World) -> None:
    one, two = await world.replica("one"), await world.replica("two", revision=2)
    await serve(world, one, two, backends=backends(r1=95, r2=5))
    calls = 2000
    for _ in range(calls // 20):
        await asyncio.gather(*(world.client.get("/shop") for _ in range(20)))
    assert abs(len(two.calls) - calls * 0.05) < 5 * math.sqrt(calls * 0.05 * 0.95)
    assert len(one.calls) + len(two.calls) == calls


async def test_a_call_that_names_its_revision_goes_there_whatever_the_shares(world: World) -> None:
    replicas = [await world.replica(f"r{n}", revision=n) for n in (1, 2, 3)]
    await serve(world, *replicas, backends=backends(r1=95, r2=5, r3=0), stream_paths=("/ticks",))
    for n, replica in enumerate(replicas, start=1):
        before = len(replica.calls)
        for path in ("/shop", "/shop/ticks", "/shop/any/thing?x=1"):
            for method in ("GET", "POST"):
                answer = await world.client.request(method, path, headers={"x-kaon-revision": str(n)})
                assert answer.status_code == 200
        assert len(replica.calls) == before + 6


@pytest.mark.parametrize("named", ["4", "0", "1, 2", "1|2", "", "default~other~1", "1~shadow", "01"])
async def test_a_call_never_goes_to_another_revision_than_it_names(world: World, named: str) -> None:
    one, two = await world.replica("one"), await world.replica("two", revision=2)
    await serve(world, one, two, backends=backends(r1=50, r2=50))
    answer = await world.client.get("/shop", headers={"x-kaon-revision": named})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.json()["detail"].endswith("The header x-kaon-revision may name: 1, 2.")
    assert not one.calls + two.calls


async def test_the_only_revision_may_be_named_too(world: World) -> None:
    one = await world.replica("one")
    await serve(world, one)
    assert (await world.client.get("/shop", headers={"x-kaon-revision": "1"})).status_code == 200
    assert (await world.client.get("/shop", headers={"x-kaon-revision": "2"})).status_code == 404


async def test_a_named_revision_without_a_replica_is_told_and_not_replaced(world: World) -> None:
    one = await world.replica("one")
    await serve(world, one, backends=backends(r1=100, r2=0))
    answer = await world.client.get("/shop", headers={"x-kaon-revision": "2"})
    assert (answer.status_code, answer.json()["code"]) == (503, "no-ready-replica")
    assert not one.calls


async def test_a_shadow_gets_copies_of_plain_calls_under_the_same_path_and_id(world: World) -> None:
    received: list[dict[bytes, bytes]] = []

    async def remembering(scope: Any, receive: Any, send: Any) -> None:
        received.append(dict(scope["headers"]) | {b"path": scope["path"].encode()})
        await echo(scope, receive, send)

    one, two = await world.replica("one"), await world.replica("two", app=remembering, revision=2)
    shadow = {"backends": backends(r1=100, r2=0), "mirror": Mirror(revision=2, percent=100)}
    await serve(world, one, two, stream_paths=("/ticks",), **shadow)
    for number in range(20):
        headers = {"x-request-id": f"call-{number}"}
        answer = await world.client.post("/shop/buy", content=b"x" * 1000, headers=headers)
        assert (answer.status_code, answer.headers["x-size"]) == (200, "1000")

    async def all_copied() -> bool:
        return len(received) >= 20

    await until(all_copied)
    assert {headers[b"x-request-id"] for headers in received} == {b"call-%d" % n for n in range(20)}
    assert {headers[b"path"] for headers in received} == {b"/buy"}
    await world.client.get("/shop/ticks")
    await world.client.post("/shop/buy", content=b"x" * 1_100_000)
    await world.client.get("/shop", headers={"x-kaon-revision": "1"})
    await world.client.get("/shop")
    await until(lambda: copied(two, 21))
    await world.client.get("/shop")
    await until(lambda: copied(two, 22))
    assert Counter(two.calls) == {("POST", "/buy"): 20, ("GET", "/"): 2}, "of the last five, only the plain ones"


async def copied(replica: Replica, number: int) -> bool:
    return len(replica.calls) >= number


async def test_about_the_share_that_was_said_is_copied(world: World) -> None:
    one, two = await world.replica("one"), await world.replica("two", revision=2)
    await serve(world, one, two, backends=backends(r1=100, r2=0), mirror=Mirror(revision=2, percent=25))
    for _ in range(50):
        await asyncio.gather(*(world.client.get("/shop") for _ in range(20)))
    assert abs(len(two.calls) - 250) < 5 * math.sqrt(1000 * 0.25 * 0.75)


@pytest.mark.parametrize("fault", ["hangs", "fails", "breaks off", "is gone"])
async def test_a_shadow_in_trouble_neither_slows_nor_fails_callers(world: World, fault: str) -> None:
    async def bad(scope: Any, receive: Any, send: Any) -> None:
        if fault == "hangs":
            await forever()
        await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"" if fault == "breaks off" else b"x" * 9})

    one, two = await world.replica("one"), await world.replica("two", app=bad, revision=2)
    await serve(world, one, two, backends=backends(r1=100, r2=0), mirror=Mirror(revision=2, percent=100))
    if fault == "is gone":
        await two.stop()
    for _ in range(15):  # 300 calls, far beyond the bound of copies on their way
        answers = await asyncio.gather(*(world.client.post("/shop", content=b"{}") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
    assert len(one.calls) == 300
