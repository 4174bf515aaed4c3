"""Old, odd and distant clients at the edge: versions of HTTP, offers to upgrade, and proxies in between."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kaon.settings import Settings

from .world import World, raw

KEY = {"authorization": "Bearer k"}


_HOST = b"HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /shop HTTP/1.0\r\n\r\n",
        b"GET /shop HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"POST /shop HTTP/1.0\r\ncontent-length: 2\r\n\r\nab",
        b"GET http://x/shop HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /shop " + _HOST + b"connection: Upgrade\r\nupgrade: TLS/1.0, HTTP/1.1\r\n\r\n",
        b"GET /shop " + _HOST + b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n",
        b"GET /shop " + _HOST + b"connection: upgrade\r\nupgrade: weather/2\r\n\r\n",
        b"GET /shop " + _HOST + b"connection: close, te\r\nte: trailers\r\n\r\n",
        b"GET /shop " + _HOST + b"x:  \t a \r\n\r\n",
        b"GET /shop " + _HOST + b"x-latin: caf\xe9\r\n\r\n",
        b"\r\nGET /shop " + _HOST + b"\r\n",
        b"GET /shop?a=b|c{}^ " + _HOST + b"\r\n",
        b"POST /shop " + _HOST + b"transfer-encoding: Chunked\r\n\r\n2;ext=1\r\nab\r\n0\r\nx: y\r\n\r\n",
    ],
)
async def test_old_and_odd_but_legal_requests_are_answered(world: World, sent: bytes) -> None:
    await world.serve(await world.replica())
    status, received = await raw(world, sent)
    assert status == 200, received


async def test_a_header_with_an_underscore_is_dropped_and_the_call_answered(world: World) -> None:
    await world.serve(await world.replica())
    answer = await world.client.get("/shop", headers={"x_client_id": "7", "x-other": "8"})
    assert answer.status_code == 200
    assert "x-other: 8" in answer.text
    assert "client" not in answer.text


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        (b"GET /shop HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET /shop HTTP/1.1\r\nhost: a b\r\n\r\n", 400, "host name"),
        (b"GET /shop/%00 " + _HOST + b"\r\n", 400, "zero byte"),
        (b"GET /shop#x " + _HOST + b"\r\n", 400, "fragment"),
        (b"GET /shop/..%2fx " + _HOST + b"\r\n", 400, "upwards"),
        (b"GET /shop " + _HOST + b"x: a\0b\r\n\r\n", 400, "character"),
        (b"GET /shop " + _HOST + b"no colon\r\n\r\n", 400, "line"),
        (b"POST /shop " + _HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "length"),
        (b"POST /shop " + _HOST + b"transfer-encoding: gzip\r\n\r\n", 501, "transfer coding"),
        (b"POST /shop " + _HOST + b"content-length: 100000001\r\n\r\n", 413, "100 MB"),
        (b"GET /shop " + _HOST + b"".join(b"h%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431, "over 100 headers"),
        (b"GET /shop " + _HOST + b"x: " + b"y" * 62_000 + b"\r\n\r\n", 431, "60 KiB"),
        (b"GET /shop?" + b"y" * 62_000 + b" " + _HOST + b"\r\n", 431, "query"),
    ],
)
async def test_a_refusal_of_the_edge_says_what_was_wrong(world: World, sent: bytes, status: int, word: str) -> None:
    await world.serve(await world.replica())
    answered, received = await raw(world, sent)
    problem = json.loads(received.partition(b"\r\n\r\n")[2])
    assert (answered, problem["status"]) == (status, status)
    assert word in problem["detail"]
    assert problem["hint"]


# Proxies


@asynccontextmanager
async def _edge(**settings: Any) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="kaon-edge-") as folder:
        world = World(Path(folder), **settings)
        world.supervise()
        try:
            await world.serve(await world.replica())
            yield world
        finally:
            await world.close()


TOLD = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "ai.example.com"}
LIES = {"x-forwarded-prefix": "/evil", "x-original-url": "/evil", "x-envoy-upstream-rq-timeout-ms": "1"}


async def test_what_a_trusted_proxy_says_of_its_client_arrives_and_nothing_else() -> None:
    async with _edge(trusted_proxies="127.0.0.0/8,10.0.0.0/8") as world:
        answer = await world.client.get("/shop", headers=TOLD | LIES)
        for name, value in TOLD.items():
            assert f"{name}: {value}" in answer.text
        assert "x-forwarded-prefix: /shop\n" in answer.text
        assert "evil" not in answer.text
        assert "rq-timeout" not in answer.text


async def test_what_anybody_else_says_of_its_client_is_not_believed() -> None:
    async with _edge(trusted_proxies="10.0.0.0/8") as world:
        answer = await world.client.get("/shop", headers=TOLD)
        assert answer.status_code == 200
        assert "x-forwarded-proto: http\n" in answer.text
        assert "ai.example.com" not in answer.text
        assert not answer.text.split("x-forwarded-for: ")[1].splitlines()[0].endswith("203.0.113.9")


@pytest.mark.parametrize("line", [b"", b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n"])
async def test_a_trusted_proxy_may_begin_by_the_proxy_protocol(line: bytes) -> None:
    async with _edge(trusted_proxies="127.0.0.1", proxy_protocol=True) as world:
        status, received = await raw(world, line + b"GET /shop HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert status == 200
        assert (b"203.0.113.9" in received) == bool(line)


def test_proxies_are_networks_and_the_proxy_protocol_needs_some() -> None:
    assert Settings(trusted_proxies="10.1.2.3/8, ::1").trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert Settings(trusted_proxies=["10.0.0.0/8", "10.9.9.9/8"]).trusted_proxies == ("10.0.0.0/8",)
    for wrong in ({"trusted_proxies": "everybody"}, {"proxy_protocol": True}):
        with pytest.raises(ValueError, match=r"proxies|PROXIES"):
            Settings(**wrong)


async def test_a_route_with_all_that_it_may_have_is_taken(world: World) -> None:
    everything = {
        "closed": True,
        "cors_origins": ("https://[::1]:8443", "app://x"),
        "hosts": ("a.example",),
        "sandbox": True,
        "hedges": {"/a": 0.1},
        "retry_paths": ("/b",),
        "stream_paths": ("/c",),
        "hold_s": 1.0,
    }
    await world.serve(await world.replica("one"), await world.replica("two"), **everything)
    for host, path in (("x", "/shop/a"), ("a.example", "/a"), ("shop.localhost", "/b")):
        assert (await world.client.get(path, headers=KEY | {"host": host})).status_code == 200
