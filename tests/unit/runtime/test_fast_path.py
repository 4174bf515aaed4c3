"""What the fast path leaves to its parent, and what it keeps of the parent's duties."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.waiting import lasts, until

import kaon
from kaon.runtime import bodies, protocol


@kaon.service
class Plain:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen = 0

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        self.seen += 1
        return text

    @kaon.endpoint
    async def held(self) -> str:
        await self.gate.wait()
        return "held"


HEAD = b"POST /%b HTTP/1.1\r\nhost: replica\r\nauthorization: Bearer kaon_testing\r\n"


def request(path: str, body: bytes, extra: bytes = b"") -> bytes:
    return HEAD % path.encode() + extra + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.strip().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        if headers.get(b"transfer-encoding") == b"chunked":
            raise AssertionError("no chunks expected")
        return int(status.split()[1]), headers, await reader.readexactly(int(headers[b"content-length"]))


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each request took."""
    taken: list[str] = []
    begin, parent = protocol.ReplicaProtocol._begin, protocol.HttpToolsProtocol._start_asgi_task

    def fast(self: Any, cycle: Any) -> None:
        taken.append("fast")
        begin(self, cycle)

    def asgi(self: Any, *args: Any) -> None:
        taken.append("asgi")
        parent(self, *args)

    monkeypatch.setattr(protocol.ReplicaProtocol, "_begin", fast)
    monkeypatch.setattr(protocol.HttpToolsProtocol, "_start_asgi_task", asgi)
    return taken


async def test_a_body_in_pieces_is_one_request(serve: Any, ways: list[str]) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    whole = request("echo", b'{"text":"abcdef"}')
    for byte in whole:
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await answer(reader))[2] == b'"abcdef"'
    assert ways == ["fast"]
    writer.close()


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (b"expect: 100-continue\r\n", "expect"),
        (b"connection: upgrade\r\nupgrade: h2c\r\n", "upgrade"),
        (b"content-type: application/vnd.api+json\r\n", "another type of JSON"),
    ],
)
async def test_unusual_requests_go_to_the_parent(serve: Any, ways: list[str], extra: bytes, what: str) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(request("echo", b'{"text":"a"}', extra))
    if what == "expect":
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    status, _, body = await answer(reader)
    assert status == (400 if what == "upgrade" else 200), body  # after an upgrade the parser reads no body
    assert ways == ["asgi"]
    writer.close()


@pytest.mark.parametrize("extra", [b"", b"content-type: application/vnd.api+json\r\n"], ids=["fast", "asgi"])
async def test_a_body_that_stops_coming_ends_in_408(serve: Any, monkeypatch: pytest.MonkeyPatch, extra: bytes) -> None:
    monkeypatch.setattr(bodies, "PAUSE_S", 0.2)
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(request("echo", b'{"text":"abcdef"}', extra)[:-5])
    status, headers, body = await answer(reader)
    assert (status, json.loads(body)["code"]) == (408, "request-timeout")
    assert headers[b"x-request-id"]
    assert running.lane("echo").in_flight == 0
    assert running.instance.seen == 0
    writer.close()


@pytest.mark.parametrize("extra", [b"", b"content-type: application/vnd.api+json\r\n"], ids=["fast", "asgi"])
async def test_a_body_that_goes_on_coming_may_take_longer_than_a_pause(
    serve: Any, monkeypatch: pytest.MonkeyPatch, extra: bytes
) -> None:
    monkeypatch.setattr(bodies, "PAUSE_S", 1.0)
    running = await serve(Plain)
    reader, writer = await running.raw()
    for byte in request("echo", b'{"text":"' + b"a" * 20 + b'"}', extra):
        writer.write(bytes([byte]))
        await writer.drain()
        await lasts(0.01)
    assert (await answer(reader))[0] == 200
    writer.close()


async def test_chunked_and_large_bodies_go_to_the_parent(serve: Any, ways: list[str]) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(HEAD % b"echo" + b'transfer-encoding: chunked\r\n\r\n5\r\n{"tex\r\n7\r\nt":"a"}\r\n0\r\n\r\n')
    assert (await answer(reader))[2] == b'"a"'
    large = json.dumps({"text": "x" * 200_000}).encode()
    writer.write(request("echo", large))
    assert len((await answer(reader))[2]) == 200_002
    assert ways == ["asgi", "asgi"]
    writer.close()


async def test_pipelined_requests_are_answered_in_order(serve: Any, eventually: Any) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(request("held", b"{}") + b"".join(request("echo", b'{"text":"%d"}' % n) for n in range(3)))
    await eventually(lambda: running.lane("held").in_flight == 1)
    running.instance.gate.set()
    bodies = [(await answer(reader))[2] for _ in range(4)]
    assert bodies == [b'"held"', b'"0"', b'"1"', b'"2"']
    writer.write(request("echo", b'{"text":"again"}'))
    assert (await answer(reader))[2] == b'"again"'
    writer.close()


async def test_pipelined_calls_that_do_not_wait_stay_on_the_fast_path(serve: Any, ways: list[str]) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(b"".join(request("echo", b'{"text":"%d"}' % n) for n in range(50)))
    assert [(await answer(reader))[2] for _ in range(50)] == [b'"%d"' % n for n in range(50)]
    assert ways == ["fast"] * 50
    writer.close()


async def test_connection_close_is_kept(serve: Any) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(request("echo", b'{"text":"a"}', b"connection: close\r\n"))
    status, headers, _ = await answer(reader)
    assert (status, headers[b"connection"]) == (200, b"close")
    assert await reader.read() == b""
    writer.close()


async def test_a_draining_replica_closes_connections_after_their_answer(serve: Any) -> None:
    running = await serve(Plain)
    running.serving.checks.closing = True
    for path in ("/echo", "/%65cho"):
        reply = await running.client.post(path, json={"text": "a"})
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")


async def test_a_client_that_does_not_read_is_not_served_on(serve: Any) -> None:
    @kaon.service
    class Large:
        def __init__(self) -> None:
            self.seen = 0

        @kaon.endpoint
        async def blow(self) -> str:
            self.seen += 1
            return "x" * 1_000_000

    running = await serve(Large)
    reader, writer = await running.raw()
    writer.write(b"".join(request("blow", b"{}") for _ in range(200)))
    await until(lambda: running.instance.seen > 0)
    for number in range(200):
        assert running.instance.seen < number + 20, "it goes ahead of its reader by what the buffers hold"
        assert len((await answer(reader))[2]) == 1_000_002
    assert running.instance.seen == 200
    writer.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await serve(Plain)
    monkeypatch.setattr(protocol.ReplicaProtocol, "timeout_keep_alive", 0.15, raising=False)
    made = protocol.ReplicaProtocol.__init__

    def short(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.timeout_keep_alive = 0.15

    monkeypatch.setattr(protocol.ReplicaProtocol, "__init__", short)
    reader, writer = await running.raw()
    for _ in range(5):
        writer.write(request("echo", b'{"text":"a"}'))
        assert (await answer(reader))[0] == 200
    writer.write(request("held", b"{}"))
    await lasts(0.3)  # longer than it may be idle
    running.instance.gate.set()
    assert (await answer(reader))[2] == b'"held"'
    assert await reader.read() == b""
    writer.close()


async def test_garbage_is_answered_by_400(serve: Any) -> None:
    running = await serve(Plain)
    reader, writer = await running.raw()
    writer.write(b"\x16\x03\x01 not http\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
