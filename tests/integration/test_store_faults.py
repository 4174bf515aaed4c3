"""R1 and R7 for the store: killed while it writes, and on a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import postgres_server

from kaon.errors import Unavailable
from kaon.store import open_store
from kaon.store.port import AuditQuery, Store
from kaon.types.workspace import WorkspaceSpec

KILLS = int(os.environ.get("KAON_CHAOS", "10"))
WRITERS = 4

NURSERY = """
import asyncio, os, sys, time
import kaon.store.sql  # before the fork, so that each child begins at once
from kaon.store import open_store
from kaon.store.writes import Create, RecordAudit, UpdateSpec
from kaon.types.audit import AuditRecord
from kaon.types.workspace import WorkspaceSpec

URL, WRITERS = sys.argv[1], int(sys.argv[2])


async def count_up(store, name):
    # two resources and an audit record, always together
    pair = [await store.find("workspace", side, name) for side in ("left", "right")]
    if pair == [None, None]:
        zero = WorkspaceSpec(description="0")
        pair = await store.write([Create("workspace", side, name, zero) for side in ("left", "right")])
    while True:
        value = int(pair[0].spec.description) + 1
        record = AuditRecord(at=time.time(), actor=str(value), verb="count", kind="workspace", name=name)
        updates = [UpdateSpec(one, WorkspaceSpec(description=str(value))) for one in pair]
        pair = await store.write([updates[0], RecordAudit([record]), updates[1]])
        os.write(1, f"ack {name} {value}\\n".encode())


async def main():
    store = open_store(URL)
    await store.open()
    await asyncio.gather(*(count_up(store, f"counter-{i}") for i in range(WRITERS)))


for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.write(1, f"pid {os.getpid()}\\n".encode())
        asyncio.run(main())
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


class Nursery:
    """A process that has imported everything and forks writers on request."""

    def __init__(self, url: str) -> None:
        self.acknowledged: dict[str, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, url, str(WRITERS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def raise_and_kill(self, after_writes: int) -> None:
        """Start a writer and kill it with writes in flight, after it has reported so many."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        pid, told = 0, 0
        while (words := self._line())[0] != "ended":
            if words[0] == "pid":
                pid = int(words[1])
                continue
            self.acknowledged[words[1]] = int(words[2])
            told += 1
            if told == after_writes:
                os.kill(pid, signal.SIGKILL)
        assert told >= after_writes

    def _line(self) -> list[str]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return line.split()

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'kaon.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_while_it_writes_lose_nothing_and_apply_nothing_twice(url: str) -> None:
    chance = random.Random(7)
    nursery = Nursery(url)
    try:
        for _ in range(KILLS):
            nursery.raise_and_kill(after_writes=chance.randint(20, 60))
            asyncio.run(check(url, nursery.acknowledged))
    finally:
        nursery.close()


async def check(url: str, acknowledged: dict[str, int]) -> None:
    """Each counter is where it was last acknowledged, or one further: the write in flight. Never two, never half."""
    store = open_store(url)
    await store.open()
    try:
        for name, value in acknowledged.items():
            counter, other = [await store.get("workspace", side, name) for side in ("left", "right")]
            kept = int(counter.spec.description)
            recorded = [record.actor for record in await store.audit(AuditQuery(name=name, limit=10_000))]
            assert recorded == [str(number) for number in range(kept, 0, -1)]
            assert (other.spec, other.generation) == (counter.spec, counter.generation)
            assert kept in (value, value + 1), f"{name}: {value} was acknowledged, {kept} is there"
            assert counter.generation == kept + 1, f"{name}: {kept} steps, applied {counter.generation - 1} times"
            acknowledged[name] = kept
    finally:
        await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_refuses_writes_and_heals_by_itself(small_disk: Path) -> None:
    path = small_disk / "kaon.db"
    store = open_store(f"sqlite:///{path}")
    await store.open()
    acknowledged = await write_until_refused(store, rounds=3)
    with contextlib.suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    acknowledged |= await write_until_refused(store, rounds=10_000)

    with pytest.raises(Unavailable) as refused:
        await store.create("workspace", "", "one-more", WorkspaceSpec(description="x" * 100_000))
    assert "full" in refused.value.cause
    assert "Free space" in refused.value.hint
    assert await names(store) >= acknowledged  # reads go on

    (small_disk / "filler").unlink()
    await store.create("workspace", "", "healed", WorkspaceSpec())
    assert await names(store) >= acknowledged | {"healed"}
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def write_until_refused(store: Store, rounds: int) -> set[str]:
    """Write in groups of eight until one is refused; the names that were acknowledged."""
    kept: set[str] = set()
    for n in range(rounds):
        wanted = [f"{rounds}-{n}-{i}" for i in range(8)]
        writes = (store.create("workspace", "", name, WorkspaceSpec(description="x" * 20_000)) for name in wanted)
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        kept |= {name for name, outcome in zip(wanted, outcomes, strict=True) if not isinstance(outcome, Exception)}
        if refused := [outcome for outcome in outcomes if isinstance(outcome, Exception)]:
            assert all(isinstance(error, Unavailable) for error in refused), refused
            break
    return kept


async def names(store: Store) -> set[str]:
    return {resource.name for resource in await store.list_all("workspace")}


async def test_a_database_that_is_away_is_told_and_heals() -> None:
    with postgres_server() as server:
        store = open_store(server.get_uri())
        await store.open()
        made = await store.create("workspace", "", "team", WorkspaceSpec())
        changes = store.watch(made.version)
        waiting = asyncio.ensure_future(anext(changes))
        server.stop()
        for call in (store.get("workspace", "", "team"), store.create("workspace", "", "more", WorkspaceSpec())):
            with pytest.raises(Unavailable):
                await call
        server.start()
        assert await store.get("workspace", "", "team") == made
        await store.create("workspace", "", "later", WorkspaceSpec())
        assert [change.name for change in await waiting] == ["later"]
        await changes.aclose()  # type: ignore[attr-defined]
        await store.close()
