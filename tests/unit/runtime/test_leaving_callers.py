"""Work for a caller ends when the caller disconnects: every kind of endpoint, running or queued."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.waiting import forever, lasts

import kaon
from kaon.runtime import app, sockets

RUNNING: list[str] = []
"""What is at work, by its name."""
OPEN = threading.Event()
"""Lets threads end, which nobody can stop."""


@contextlib.contextmanager
def at_work(name: str) -> Iterator[None]:
    RUNNING.append(name)
    try:
        yield
    finally:
        RUNNING.remove(name)


async def mounted(request: Request) -> PlainTextResponse:
    with at_work("mounted"):
        await forever()
    return PlainTextResponse("")


async def mounted_socket(socket: WebSocket) -> None:
    await socket.accept()
    with at_work("mounted-socket"):
        await forever()


@kaon.service(mounts={"/ui": Starlette(routes=[Route("/mounted", mounted), WebSocketRoute("/talk", mounted_socket)])})
class Lasting:
    @kaon.endpoint(concurrency=1, timeout_s=None)
    async def call(self) -> None:
        with at_work("call"):
            await forever()

    @kaon.endpoint(concurrency=1, timeout_s=None)
    async def file(self, picture: kaon.Image) -> None:
        with at_work("file"):
            await forever()

    @kaon.endpoint(concurrency=1, timeout_s=None, batch=kaon.Batch(max_size=1))
    async def batch(self, rows: list[int]) -> list[int]:
        with at_work("batch"):
            await forever()
        return rows

    @kaon.endpoint(concurrency=1)
    async def stream(self) -> AsyncIterator[int]:
        with at_work("stream"):
            while True:
                yield 1
                await lasts(0.01)

    @kaon.endpoint(concurrency=1)
    async def silent_stream(self) -> AsyncIterator[int]:
        with at_work("silent-stream"):
            await forever()
            yield 1

    @kaon.endpoint(concurrency=1)
    async def raw(self) -> AsyncIterator[bytes]:
        with at_work("raw"):
            while True:
                yield b"x" * 100_000

    @kaon.endpoint(concurrency=1)
    def stream_in_thread(self) -> Iterator[int]:
        with at_work("stream-in-thread"):
            while True:
                yield 1

    @kaon.endpoint(concurrency=1)
    async def talk(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        with at_work("talk"):
            await forever()


CALLS = {
    "call": b"POST /call HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n%b\r\n{}",
    "file": b"POST /file HTTP/1.1\r\ncontent-type: image/png\r\ncontent-length: 1\r\n%b\r\nx",
    "batch": b'POST /batch HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 12\r\n%b\r\n{"rows":[1]}',
    "stream": b"POST /stream HTTP/1.1\r\ncontent-length: 0\r\n%b\r\n",
    "silent-stream": b"POST /silent-stream HTTP/1.1\r\ncontent-length: 0\r\n%b\r\n",
    "raw": b"POST /raw HTTP/1.1\r\ncontent-length: 0\r\n%b\r\n",
    "stream-in-thread": b"POST /stream-in-thread HTTP/1.1\r\ncontent-length: 0\r\n%b\r\n",
    "talk": (
        b"GET /talk HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n%b\r\n"
    ),
    "mounted": b"GET /ui/mounted HTTP/1.1\r\n%b\r\n",
    "mounted-socket": (
        b"GET /ui/talk HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n%b\r\n"
    ),
}
HEADERS = b"host: replica\r\nauthorization: Bearer kaon_testing\r\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "GONE_S", 0.01)
    monkeypatch.setattr(sockets, "GONE_S", 0.01)
    RUNNING.clear()


async def connected(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, path)
    return line


def leave(line: socket.socket, how: str) -> None:
    if how == "reset":
        with contextlib.suppress(OSError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", CALLS)
async def test_what_runs_ends_with_its_caller(serve: Any, eventually: Any, kind: str, how: str) -> None:
    running = await serve(Lasting)
    line = await connected(running.path)
    await asyncio.get_running_loop().sock_sendall(line, CALLS[kind] % HEADERS)
    await eventually(lambda: [kind] == RUNNING)
    assert running.serving.in_flight == 1
    leave(line, how)
    await eventually(lambda: not RUNNING and not running.serving.in_flight)
    await eventually(lambda: not any(lane.busy for lane in running.serving.lanes))


@pytest.mark.parametrize("kind", [kind for kind in CALLS if not kind.startswith("mounted")])
async def test_what_waits_for_a_slot_leaves_with_its_caller(serve: Any, eventually: Any, kind: str) -> None:
    running = await serve(Lasting)
    lane = running.lane(kind.replace("-", "_"))
    first, second = await connected(running.path), await connected(running.path)
    await asyncio.get_running_loop().sock_sendall(first, CALLS[kind] % HEADERS)
    await eventually(lambda: lane.busy == 1)
    await asyncio.get_running_loop().sock_sendall(second, CALLS[kind] % HEADERS)
    await eventually(lambda: lane.queued == 1)
    leave(second, "close")
    await eventually(lambda: lane.queued == 0)
    assert (lane.busy, lane.in_flight) == (1, 1)
    leave(first, "close")
    await eventually(lambda: (lane.busy, lane.in_flight) == (0, 0))


@pytest.mark.parametrize("kind", ["call", "file", "stream", "silent-stream", "mounted"])
@pytest.mark.parametrize("behind", ["call", "stream", "mounted"])
async def test_pipelined_requests_end_with_their_caller(serve: Any, eventually: Any, kind: str, behind: str) -> None:
    running = await serve(Lasting)
    line = await connected(running.path)
    await asyncio.get_running_loop().sock_sendall(line, CALLS[kind] % HEADERS + CALLS[behind] % HEADERS)
    await eventually(lambda: [kind] == RUNNING)
    leave(line, "close")
    await eventually(lambda: not RUNNING and not running.serving.in_flight)


@pytest.mark.parametrize("kind", ["stream", "silent-stream", "raw", "stream-in-thread"])
async def test_head_of_a_stream_runs_nothing(serve: Any, kind: str) -> None:
    class Readable:
        """The same streams by GET."""

        stream = kaon.endpoint(method="GET", concurrency=1)(Lasting.stream)
        silent_stream = kaon.endpoint(method="GET")(Lasting.silent_stream)
        raw = kaon.endpoint(method="GET", media_type="audio/wav")(Lasting.raw)
        stream_in_thread = kaon.endpoint(method="GET")(Lasting.stream_in_thread)

    running = await serve(kaon.service(Readable))
    answer = await running.client.head(f"/{kind}")
    told = "audio/wav" if kind == "raw" else "text/event-stream"
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, told, b"")
    assert (await running.client.options(f"/{kind}")).headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await running.client.head(f"/{kind}", headers={"x-request-timeout": "soon"})).status_code == 400
    assert not RUNNING
    assert running.lane(kind.replace("-", "_")).began == 0
