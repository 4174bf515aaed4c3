"""The load generator of `make bench-live`: its books are right, and it tells when it is not to be believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from benchmarks.live import load
from benchmarks.live.connections import Target

ANSWER = b"HTTP/1.1 %d Said\r\ncontent-length: 2\r\n\r\n{}"
Handler = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[Target]:
    """A server that lets `handler` answer its nth request, and the target that it is."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                seen += 1
                await handler(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield Target("it", f"http://127.0.0.1:{port}/x", "{}")
    finally:
        listening.close()


async def at_once(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER % 200)


def every(ms: int, calls: int) -> list[int]:
    return [i * ms * 1_000_000 for i in range(calls)]


async def test_every_arrival_of_the_trace_is_sent_and_booked_in_its_second() -> None:
    async with server(at_once) as target:
        told = (await load.play([target], every(20, 60), 30.0))["it"]
    assert (told["calls"], told["ok"], told["pending"]) == (60, 60, 0)
    assert [second["calls"] for second in told["per_second"]] == [50, 10]
    assert sum(second["ok"] for second in told["per_second"]) == 60


async def test_two_targets_get_the_same_calls() -> None:
    async with server(at_once) as one, server(at_once) as other:
        told = await load.play([one, Target("other", other.url, "{}")], every(5, 20), 30.0)
    assert told["it"]["ok"] == told["other"]["ok"] == 20


async def test_refusals_failures_and_cut_connections_are_told_apart() -> None:
    async def handler(number: int, writer: asyncio.StreamWriter) -> None:
        if number % 4 == 0:
            writer.close()
        else:
            writer.write(ANSWER % {1: 200, 2: 503, 3: 500}[number % 4])

    async with server(handler) as target:
        told = (await load.play([target], every(20, 8), 30.0))["it"]
    assert (told["ok"], told["shed"], told["failed"], told["broken"]) == (2, 2, 2, 2)


async def test_a_caller_hangs_up_at_its_deadline_and_the_next_ones_come_on_time_all_the_same() -> None:
    async def never(number: int, writer: asyncio.StreamWriter) -> None:
        if number > 1:
            writer.write(ANSWER % 200)

    async with server(never) as target:
        told = (await load.play([target], every(10, 20), 2.0))["it"]
    assert (told["late"], told["ok"]) == (1, 19)
    assert told["p99_s"] >= 2.0


async def test_nobody_there_is_a_broken_call_and_not_a_hang() -> None:
    async with server(at_once) as target:
        pass
    told = (await load.play([target], every(10, 3), 30.0))["it"]
    assert told["broken"] == 3


async def test_time_counts_from_when_a_call_should_have_left_and_a_late_generator_says_so() -> None:
    async def standing_still(number: int, writer: asyncio.StreamWriter) -> None:
        until = time.monotonic() + (0.25 if number == 10 else 0.0)
        while time.monotonic() < until:  # the server is in the generator's own process
            pass
        writer.write(ANSWER % 200)

    async with server(standing_still) as target:
        told = (await load.play([target], every(10, 30), 30.0))["it"]
    assert told["ok"] == 30
    assert told["lateness_max_s"] > 0.15
    assert told["p99_s"] > 0.15
    assert told["honest"] is False


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(at_once) as target:
        kept = (await load.play([target], every(50, 4), 30.0))["it"]
        monkeypatch.setattr("benchmarks.live.connections.KEPT_S", 0.001)
        fresh = (await load.play([target], every(50, 4), 30.0))["it"]
    assert (kept["ok"], kept["connections"]) == (4, 1)
    assert (fresh["ok"], fresh["connections"]) == (4, 4)
