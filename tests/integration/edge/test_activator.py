"""The activator without an edge: bare connections, and a clock that tests advance."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.waiting import turns, until

from kaon.clock import FakeClock
from kaon.edge import waiting
from kaon.edge.activator import Activator
from kaon.edge.answers import ActivatorResponse
from kaon.edge.heads import Head
from kaon.edge.waiting import HoldTerms
from kaon.errors import NotFound

KEY = ("default", "shop")
CALL = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"


class Everybody:
    def admit(self, head: Head) -> ActivatorResponse | None:
        return None


class Bare:
    """An activator with one room, and a replica that answers `done` to any bytes."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.activator = Activator(self.clock)
        self.path, self.replica = folder / "room.sock", folder / "replica.sock"
        self.heard: list[bytes] = []

    @property
    def held(self) -> int:
        return self.activator.held.get(KEY, 0)

    async def call(self, sent: bytes = CALL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(sent)
        return reader, writer

    async def until_held(self, count: int) -> None:
        await until(lambda: self.held == count)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.1) + 1):
            await self.clock.advance(0.1)
            await turns(1)

    async def pass_time_until(self, condition: Callable[[], bool]) -> None:
        """Let half seconds pass until it holds."""
        while not condition():
            await self.pass_time(0.5)

    def ready(self, *replicas: str) -> None:
        self.activator.set_replicas(KEY, replicas)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(1000))
        writer.write(b"done")
        writer.close()


@asynccontextmanager
async def bare(hold_s: float = 10) -> AsyncIterator[Bare]:
    with tempfile.TemporaryDirectory(prefix="kaon-act-") as folder:
        it = Bare(Path(folder))
        server = await asyncio.start_unix_server(it.answer, str(it.replica))
        running = asyncio.create_task(it.activator.run())
        try:
            await it.activator.open(KEY, it.path, HoldTerms(Everybody(), hold_s))
            yield it
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            server.close()


async def test_bytes_go_to_the_replica_as_they_came() -> None:
    async with bare() as it:
        reader, writer = await it.call(CALL + CALL)  # the second is the replica's matter
        await it.until_held(1)
        it.ready(f"unix:{it.replica}")
        assert await reader.read() == b"done"
        assert it.heard == [CALL + CALL]
        writer.close()
        assert it.held == 0


async def test_a_head_that_does_not_come_ends_the_connection() -> None:
    async with bare() as it:
        reader, writer = await it.call(b"POST / HTTP/1.1\r\nhost:")
        await it.pass_time_until(reader.at_eof)
        assert await reader.read() == b""
        assert it.held == 0
        writer.close()


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000])
async def test_what_is_no_request_is_answered_and_nobody_waits(junk: bytes) -> None:
    async with bare() as it:
        reader, writer = await it.call(junk)
        assert (await reader.readline()).split()[1] in (b"400", b"413")
        assert it.held == 0
        writer.close()


async def test_a_caller_that_says_how_long_it_waits_is_not_held_longer() -> None:
    async with bare(hold_s=60) as it:
        reader, writer = await it.call(b"GET / HTTP/1.1\r\nhost: a\r\nx-request-timeout: 1.5\r\n\r\n")
        await it.until_held(1)
        await it.pass_time(2)
        assert b"503" in await reader.readline()
        writer.close()


async def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "CALLS_MAX", 2)
    async with bare() as it:
        first = [await it.call() for _ in range(2)]
        await it.until_held(2)
        reader, writer = await it.call()
        answer = await reader.read(1000)
        assert b" 503 " in answer
        assert b"retry-after: 1\r\n" in answer
        assert it.held == 2
        for _, open_one in [*first, (reader, writer)]:
            open_one.close()
        await it.until_held(0)


async def test_a_deployment_that_goes_lets_nobody_wait_on() -> None:
    async with bare() as it:
        reader, writer = await it.call()
        await it.until_held(1)
        it.activator.close(KEY, NotFound("The deployment at this path was deleted."))
        assert b" 404 " in await reader.readline()
        writer.close()
        await it.pass_time_until(lambda: not it.activator.rooms)
        assert not it.path.exists()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["call", "hang up", "ready", "gone", "unreachable", "time"]), max_size=25))
def test_who_waits_is_counted_right_whatever_happens(story: list[str]) -> None:
    async def run() -> None:
        async with bare(hold_s=1) as it:
            open_ones: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for step in story:
                match step:
                    case "call":
                        open_ones.append(await it.call())
                    case "hang up" if open_ones:
                        open_ones.pop()[1].close()
                    case "ready":
                        it.ready(f"unix:{it.replica}")
                    case "gone":
                        it.ready()
                    case "unreachable":
                        it.ready(f"unix:{it.replica}.nobody")
                    case "time":
                        await it.pass_time(0.5)
                await turns(1)
                assert 0 <= it.held <= len(story)
            it.ready()
            await it.pass_time_until(lambda: it.held == 0)
            for _, writer in open_ones:
                writer.close()
            await it.until_held(0)

    asyncio.run(run())
