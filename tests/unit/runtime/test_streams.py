"""Generators and websockets: items as they come, in flight until the end, stopped when the caller disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from tests.waiting import turns
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import kaon
from kaon.runtime import stream
from kaon.types.key import Access, Grant, key_hash


@kaon.service
class Streams:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.blocked = threading.Event()
        self.closed: list[str] = []

    @kaon.endpoint(method="GET")
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @kaon.endpoint(method="GET")
    def count_in_thread(self, to: int) -> Iterator[int]:
        yield from range(to)

    @kaon.endpoint(method="GET", concurrency=1)
    async def gated(self) -> AsyncIterator[str]:
        try:
            yield "first"
            await self.gate.wait()
            yield "second"
        finally:
            self.closed.append("gated")

    @kaon.endpoint(method="GET", concurrency=1)
    def blocks(self) -> Iterator[str]:
        try:
            yield "first"
            self.blocked.wait(5)
            yield "second"
        finally:
            self.closed.append("blocks")

    @kaon.endpoint(method="GET")
    async def breaks(self, after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise RuntimeError("hunter2")

    @kaon.endpoint
    async def talk(self, socket: kaon.WebSocket, greeting: str = "hi") -> None:
        await socket.accept()
        await socket.send_text(greeting)
        async for text in socket.iter_text():
            await socket.send_text(text.upper())


def events(text: str) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block.startswith("data: ")]


@pytest.mark.parametrize("path", ["/count", "/count-in-thread"])
async def test_items_are_events_or_lines(serve: Any, path: str) -> None:
    running = await serve(Streams)
    answer = await running.client.get(f"{path}?to=1000")
    assert answer.headers["content-type"] == "text/event-stream"
    assert events(answer.text) == list(range(1000))
    answer = await running.client.get(f"{path}?to=3", headers={"accept": "application/x-ndjson"})
    assert (answer.headers["content-type"], answer.text) == ("application/x-ndjson", "0\n1\n2\n")
    assert (await running.client.get(f"{path}?to=0")).text == ""


@pytest.mark.parametrize("path", ["/count?to=1", "/gated"])
async def test_streams_need_a_key(serve: Any, path: str) -> None:
    running = await serve(Streams)
    del running.client.headers["authorization"]
    assert (await running.client.get(path)).status_code == 401


async def test_a_stream_counts_as_in_flight_until_its_end(serve: Any, eventually: Any) -> None:
    running = await serve(Streams)
    lane = running.lane("gated")
    async with running.client.stream("GET", "/gated") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == 'data: "first"'
        assert (lane.in_flight, lane.busy, running.serving.in_flight) == (1, 1, 1)
        running.instance.gate.set()
        assert [line async for line in lines if line] == ['data: "second"']
    await eventually(lambda: (lane.in_flight, lane.busy) == (0, 0))


@pytest.mark.parametrize("path", ["/gated", "/blocks"])
async def test_a_listener_that_leaves_ends_the_generator(serve: Any, eventually: Any, path: str) -> None:
    running = await serve(Streams)
    lane = running.lane(path[1:])
    async with running.client.stream("GET", path) as answer:
        assert await anext(answer.aiter_lines()) == 'data: "first"'
    await eventually(lambda: lane.in_flight == 0)
    if path == "/blocks":
        assert lane.busy == 1  # its thread cannot be stopped, so its slot is not free
        running.instance.blocked.set()
    await eventually(lambda: lane.busy == 0)
    assert running.instance.closed == [path[1:]]


async def test_the_next_stream_waits_for_the_slot(serve: Any, eventually: Any) -> None:
    running = await serve(Streams)
    lane = running.lane("gated")
    async with running.client.stream("GET", "/gated") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == 'data: "first"'
        late = await running.client.get("/gated", headers={"x-request-timeout": "0.1"})
        assert (late.status_code, late.json()["code"]) == (504, "deadline-exceeded")
        behind = asyncio.create_task(running.client.get("/gated"))
        await eventually(lambda: lane.queued == 1)
        running.instance.gate.set()
        assert [line async for line in lines if line] == ['data: "second"']
    assert events((await behind).text) == ["first", "second"]


async def test_a_deadline_ends_a_stream_with_an_error_event(serve: Any, eventually: Any) -> None:
    running = await serve(Streams)
    answer = await running.client.get("/gated", headers={"x-request-timeout": "0.1"})
    assert answer.text.startswith('data: "first"\n\nevent: error\ndata: ')
    assert "deadline-exceeded" in answer.text
    await eventually(lambda: running.lane("gated").busy == 0)
    assert running.lane("gated").figures.codes == {504: 1}


async def test_a_generator_that_breaks_says_so_without_leaking(serve: Any) -> None:
    running = await serve(Streams)
    at_once = await running.client.get("/breaks?after=0")
    assert (at_once.status_code, at_once.json()["code"]) == (500, "internal")
    later = await running.client.get("/breaks?after=2")
    assert later.text.startswith("data: 0\n\ndata: 1\n\nevent: error\ndata: ")
    lines = await running.client.get("/breaks?after=1", headers={"accept": "application/x-ndjson"})
    assert json.loads(lines.text.splitlines()[1])["error"]["code"] == "internal"
    assert "hunter2" not in at_once.text + later.text + lines.text


async def pumped(items: Any, encode: Any) -> list[bytes]:
    sent: list[bytes] = []

    async def write(chunk: bytes) -> None:
        sent.append(chunk)

    await stream.pump(items, encode, write)
    return sent


async def test_items_of_one_turn_of_the_loop_are_one_chunk() -> None:
    async def bursts() -> AsyncIterator[int]:
        for burst in range(3):
            for number in range(4):
                yield 10 * burst + number
            await turns(1)

    sent = await pumped(bursts(), lambda item: b"%d " % item)
    assert sent == [b"0 1 2 3 ", b"10 11 12 13 ", b"20 21 22 23 "]


async def test_a_large_burst_is_cut_before_it_fills_the_memory() -> None:
    async def many() -> AsyncIterator[int]:
        for number in range(1000):
            yield number

    sent = await pumped(many(), lambda _: b"x" * 1000)
    assert sum(map(len, sent)) == 1_000_000
    assert max(map(len, sent)) <= 66_536


async def test_websockets_talk_and_count_as_in_flight(serve: Any, eventually: Any) -> None:
    running = await serve(Streams)
    lane = running.lane("talk")
    uri = "ws://replica/talk?greeting=moin"
    async with unix_connect(running.path, uri, additional_headers={"authorization": "Bearer kaon_testing"}) as socket:
        assert await socket.recv() == "moin"
        await socket.send("abc")
        assert await socket.recv() == "ABC"
        assert lane.in_flight == 1
    await eventually(lambda: (lane.in_flight, lane.busy) == (0, 0))
    assert lane.figures.codes == {101: 1}


@pytest.mark.parametrize(
    ("path", "key", "code"),
    [("/talk", "wrong", 401), ("/nothing", "kaon_testing", 404), ("/count", "kaon_testing", 404)],
)
async def test_a_websocket_that_may_not_be_is_refused_at_the_handshake(
    serve: Any, path: str, key: str, code: int
) -> None:
    running = await serve(Streams)
    with pytest.raises(InvalidStatus) as refused:
        async with unix_connect(
            running.path, f"ws://replica{path}", additional_headers={"authorization": f"Bearer {key}"}
        ):
            pass
    assert refused.value.response.status_code == code


async def test_a_plain_request_to_a_websocket_says_what_it_is(serve: Any) -> None:
    running = await serve(Streams)
    answer = await running.client.get("/talk")
    assert (answer.status_code, "WebSocket" in answer.json()["hint"]) == (405, True)


@kaon.service
class Raw:
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    @kaon.endpoint(method="GET", media_type="audio/wav")
    async def speak(self, fail_at: int = -1) -> AsyncIterator[bytes]:
        for number, piece in enumerate([b"RIFF\x00\xff", b"", bytearray(b"\x01"), memoryview(b"\x02")]):
            if number == fail_at:
                raise RuntimeError("hunter2")
            yield piece  # type: ignore[misc]

    @kaon.endpoint(method="GET")
    def in_thread(self) -> Iterator[bytes]:
        yield b"\r\n\x00"
        yield b"\xff"

    @kaon.endpoint(method="GET")
    async def gated(self) -> AsyncIterator[bytes]:
        yield b"first"
        await self.gate.wait()
        yield b"second"

    @kaon.endpoint(method="GET")
    async def text(self) -> AsyncIterator[bytes]:
        yield "text"  # type: ignore[misc]

    @kaon.endpoint(method="GET")
    async def nothing(self) -> AsyncIterator[bytes]:
        return
        yield


@pytest.mark.parametrize("accept", ["*/*", "audio/wav", "application/x-ndjson", "text/event-stream"])
async def test_a_generator_of_bytes_is_sent_as_it_is(serve: Any, accept: str) -> None:
    running = await serve(Raw)
    answer = await running.client.get("/speak", headers={"accept": accept})
    assert (answer.headers["content-type"], answer.content) == ("audio/wav", b"RIFF\x00\xff\x01\x02")
    answer = await running.client.get("/in-thread", headers={"accept": accept})
    assert (answer.headers["content-type"], answer.content) == ("application/octet-stream", b"\r\n\x00\xff")
    assert (await running.client.get("/nothing")).content == b""


async def test_bytes_are_on_the_wire_as_they_are_yielded(serve: Any) -> None:
    running = await serve(Raw)
    async with running.client.stream("GET", "/gated") as answer:
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"first"
        running.instance.gate.set()
        assert await anext(pieces) == b"second"


async def test_bytes_that_break_off_have_no_clean_end(serve: Any, eventually: Any) -> None:
    running = await serve(Raw)
    early = await running.client.get("/speak?fail_at=0")
    assert (early.status_code, early.headers["content-type"]) == (500, "application/problem+json")
    assert (await running.client.get("/text")).json()["code"] == "bad-answer"
    with pytest.raises(httpx2.RemoteProtocolError):
        await running.client.get("/speak?fail_at=2")
    await eventually(lambda: running.serving.in_flight == 0)
    assert running.lane("speak").figures.codes == {500: 2}


@pytest.mark.parametrize("key", ["revoked", "expired", "public no longer"])
@pytest.mark.parametrize("path", ["/gated", "/count?to=1000000000", "/blocks", "/talk"])
async def test_what_lasts_ends_with_its_key(serve: Any, eventually: Any, path: str, key: str) -> None:
    grant = Grant(hash=key_hash("kaon_testing"), key="tester", expires_at=1e12)
    access = Access(public=True) if key == "public no longer" else Access(grants=(grant,))
    running = await serve(Streams, access=access)
    lane = running.lane(path[1:].partition("?")[0])
    begun = asyncio.Event()
    talk = asyncio.create_task(_listen(running, path, begun))
    await begun.wait()
    if key == "expired":
        await running.clock.advance(1e12)
    else:
        told = await running.control_client.put("/access", content=Access().model_dump_json())
        assert told.status_code == 204
    await talk
    assert lane.in_flight == 0
    running.instance.blocked.set()
    await eventually(lambda: lane.busy == 0)


async def _listen(running: Any, path: str, begun: asyncio.Event) -> None:
    """Until the replica ends it, with the reason."""
    if path == "/talk":
        headers = {"authorization": "Bearer kaon_testing"}
        async with unix_connect(running.path, "ws://replica/talk", additional_headers=headers) as socket:
            begun.set()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.protocol.close_code == 1008
        return
    async with running.client.stream("GET", path) as answer:
        last = b""
        async for piece in answer.aiter_bytes():
            begun.set()
            last = (last + piece)[-1000:]
    assert b"event: error" in last
    assert b"unauthenticated" in last


async def test_a_handler_that_will_not_stop_cannot_keep_its_socket(serve: Any, eventually: Any) -> None:
    stop = asyncio.Event()

    @kaon.service
    class Stubborn:
        @kaon.endpoint
        async def talk(self, socket: kaon.WebSocket) -> None:
            await socket.accept()
            while not stop.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await stop.wait()

    running = await serve(Stubborn)
    begun = asyncio.Event()
    talk = asyncio.create_task(_listen(running, "/talk", begun))
    await begun.wait()
    running.serving.checks.access.put(Access())
    await talk
    stop.set()
    await eventually(lambda: running.lane("talk").busy == 0)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_message_that_is_too_large_is_reported(serve: Any, pieces: int) -> None:
    @kaon.service
    class Small:
        @kaon.endpoint(max_message_bytes=100_000)
        async def talk(self, socket: kaon.WebSocket) -> None:
            await socket.accept()
            async for data in socket.iter_bytes():
                await socket.send_text(str(len(data)))

    running = await serve(Small)
    headers = {"authorization": "Bearer kaon_testing"}
    async with unix_connect(running.path, "ws://replica/talk", additional_headers=headers) as socket:
        await socket.send(b"x" * 100_000)
        assert await socket.recv() == "100000"
        with contextlib.suppress(ConnectionClosed):
            await socket.send([b"x" * 7_000_000] * pieces)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.protocol.close_code == 1009
        assert "100000" in (socket.protocol.close_reason or "")


async def test_messages_of_32_mib_are_taken_unless_the_endpoint_says_otherwise(serve: Any) -> None:
    running = await serve(Streams)
    headers = {"authorization": "Bearer kaon_testing"}
    async with unix_connect(
        running.path, "ws://replica/talk", additional_headers=headers, max_size=None, compression=None
    ) as socket:
        assert await socket.recv() == "hi"
        await socket.send("x" * (32 * 2**20))
        assert len(await socket.recv()) == 32 * 2**20
        await socket.send("x" * (32 * 2**20 + 1))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
