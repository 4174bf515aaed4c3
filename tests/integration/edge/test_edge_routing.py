"""What a client meets at the edge: paths, headers, problems."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import unquote

import pytest
from tests.waiting import forever, until

from .world import World, echo, route

KEY = {"authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/shop", "/"),
        ("/shop/", "/"),
        ("/shop?user_id=1", "/?user_id=1"),
        ("/shop/similar?product_id=2&k=%2F", "/similar?product_id=2&k=%2F"),
        ("/shop/a/b%20c", "/a/b%20c"),
        ("/shop//a", "/a"),
        ("/shop/x/../a", "/a"),
        ("/shop/shop", "/shop"),
        ("/shop/org%2Fname", "/org%2Fname"),
        ("/shop/org%2fname/b%2F", "/org%2fname/b%2F"),
        ("/shop/%5cx", "/%5cx"),
    ],
)
async def test_the_prefix_is_taken_off(world: World, asked: str, seen: str) -> None:
    await world.serve(await world.replica())
    answer = await world.client.get(asked)
    assert answer.status_code == 200
    path, mark, query = seen.partition("?")
    assert answer.text.splitlines()[0] == f"GET {unquote(path)}{mark}{query}"
    assert answer.headers["x-raw-path"] == path


async def test_a_replica_learns_the_prefix_and_the_request_id_and_no_lies(world: World) -> None:
    await world.serve(await world.replica())
    lies = {"x-forwarded-prefix": "/evil", "x-forwarded-host": "evil", "x-envoy-upstream-rq-timeout-ms": "1"}
    answer = await world.client.get("/shop", headers=lies | {"x-request-id": "a" * 100})
    assert "x-forwarded-prefix: /shop\n" in answer.text
    assert "evil" not in answer.text
    assert "x-envoy-upstream-rq-timeout-ms" not in answer.text
    assert f"x-request-id: {'a' * 64}\n" in answer.text
    assert answer.headers["x-request-id"] == "a" * 64
    assert not {"server", "x-powered-by", "x-envoy-upstream-service-time"} & set(answer.headers)
    fresh = await world.client.get("/shop")
    assert len(fresh.headers["x-request-id"]) == 36


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("/", 404, "not-found"),
        ("/shop%2fx", 404, "not-found"),
        ("/shopping", 401, "unauthenticated"),
        ("/health", 401, "unauthenticated"),
        ("/empty", 503, "no-ready-replica"),
        ("/shop/a%2f..%2fb", 400, "invalid-input"),
        ("/shop/%00", 400, "invalid-input"),
        ("/api/v1/health", 503, "unavailable"),
    ],
)
async def test_errors_of_the_edge_are_problems_with_a_code(world: World, asked: str, status: int, code: str) -> None:
    replica = await world.replica()
    await world.edge.apply((route("shop"), route("empty")), {("default", "shop"): (replica.endpoint,)})
    answer = await world.client.get(asked)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(answer.text)
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["hint"]
    if status != 400 or "a" in asked:
        assert problem["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_an_announced_body_over_the_limit_is_refused_unread(world: World) -> None:
    await world.serve(await world.replica())
    reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.port)
    writer.write(b"POST /shop HTTP/1.1\r\nhost: x\r\ncontent-length: 100000001\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_slow_answer_ends_as_a_problem_when_its_time_is_over(world: World) -> None:
    async def never(scope: object, receive: object, send: object) -> None:
        await forever()

    await world.serve(await world.replica(app=never), timeout_s=0.3)
    answer = await world.client.post("/shop")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline-exceeded")


async def test_calls_of_the_api_go_to_its_socket_with_the_path_as_it_is(world: World) -> None:
    api = await world.replica("api", echo)
    world.settings.api_socket.symlink_to(api.endpoint.address.removeprefix("unix:"))
    for path in ("/api/v1/health", "/api/a%2fb", "/console", "/console/x", "/docs/"):
        answer = await world.client.get(path)
        assert answer.text.splitlines()[0] == f"GET {unquote(path)}"


async def test_the_api_answers_calls_with_a_key_of_paths_where_nothing_is_deployed(world: World) -> None:
    for path in ("/apiary", "/~lab/shop/x", "/Shop"):
        answer = await world.client.get(path, headers=KEY)
        assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (404, "not-found", 404)
        assert answer.json()["detail"] == "Nothing is deployed at this path."
    api = await world.replica("api", echo)
    world.settings.api_socket.symlink_to(api.endpoint.address.removeprefix("unix:"))
    for path in ("/apiary", "/~lab/shop/x", "/Shop"):
        answer = await world.client.post(path, headers=KEY)
        assert answer.text.splitlines()[0] == f"POST {path}"
    assert (await world.client.get("/apiary")).status_code == 401
    assert len(api.calls) == 3


async def test_revisions_share_traffic_by_weight_and_one_without_replicas_gets_none(world: World) -> None:
    one, two = await world.replica("one"), await world.replica("two", revision=2)
    both = (one.endpoint, two.endpoint)
    await world.edge.apply((route(revisions=(1, 2)),), {("default", "shop"): both})
    for _ in range(60):
        assert (await world.client.get("/shop")).status_code == 200
    assert len(one.calls) > 10
    assert len(two.calls) > 10
    await world.edge.apply((route(revisions=(1, 2)),), {("default", "shop"): (one.endpoint,)})
    before = len(two.calls)
    for _ in range(30):
        assert (await world.client.get("/shop")).status_code == 200
    assert len(two.calls) == before


async def test_a_replica_that_says_not_ready_gets_no_more_calls(world: World) -> None:
    one, two = await world.replica("one"), await world.replica("two")
    await world.serve(one, two)
    one.ready = False

    async def only_two() -> bool:
        before = len(one.calls)
        for _ in range(20):
            assert (await world.client.get("/shop")).status_code == 200
        return len(one.calls) == before

    await until(only_two)


async def test_the_last_replica_is_tried_even_when_it_says_not_ready(world: World) -> None:
    one = await world.replica("one")
    one.ready = False
    await world.serve(one)
    assert (await world.client.get("/shop")).status_code == 200
