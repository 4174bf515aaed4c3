"""Generators and websockets: items as they come, in flight until the end, stopped when nobody listens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

import kaon
from kaon.runtime import stream


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
            await asyncio.sleep(0)

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
