"""How new a snapshot is, whom it tells, and what it does with a store that was restored or cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.waiting import turns

from kaon.errors import NotFound, Unavailable, UnreadableRow
from kaon.store import open_store, snapshot
from kaon.store.database import connect
from kaon.store.memory import MemoryStore
from kaon.store.port import Change
from kaon.store.schema import resources
from kaon.store.snapshot import Snapshot
from kaon.types.workspace import WorkspaceSpec


def spec(text: str = "") -> WorkspaceSpec:
    return WorkspaceSpec(description=text)


class CountingStore(MemoryStore):
    """Counts its reads, and lets them wait."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.away = False

    async def changes(self, after: int) -> list[Change]:
        self.reads += 1
        await turns(1)
        if self.away:
            raise Unavailable("away")
        return await super().changes(after)


class Restorable(MemoryStore):
    """A store in whose place another one can be put; its watch breaks then."""

    def __init__(self) -> None:
        super().__init__()
        self.restored = asyncio.Event()

    def restore(self, backup: MemoryStore) -> None:
        self._resources, self._changes, self._version = backup._resources, backup._changes, backup._version
        self.restored.set()

    async def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        await self.restored.wait()
        self.restored.clear()
        raise Unavailable("the watch broke")
        yield []


async def test_nothing_is_read_of_a_snapshot_that_is_not_filled() -> None:
    with pytest.raises(Unavailable):
        Snapshot(MemoryStore()).list("workspace")


async def test_what_was_written_before_is_in_it_after_current() -> None:
    store = MemoryStore()
    snapshot = Snapshot(store)
    made = await store.create("workspace", "", "team", spec())
    await snapshot.current()
    assert snapshot.get("workspace", "", "team") is made
    assert snapshot.version == made.version
    await store.delete(made)
    await snapshot.current()
    assert snapshot.find("workspace", "", "team") is None
    with pytest.raises(NotFound):
        snapshot.get("workspace", "", "team")


async def test_what_is_new_enough_is_read_without_asking_the_store() -> None:
    store = CountingStore()
    snapshot = Snapshot(store)
    made = await store.create("workspace", "", "team", spec())
    await snapshot.at_least(made.version)
    reads = store.reads
    await snapshot.at_least(made.version)
    assert store.reads == reads
    later = await store.update_spec(made, spec("later"))
    await snapshot.at_least(store.written)
    assert snapshot.get("workspace", "", "team") is later


async def test_those_who_wait_at_the_same_time_share_a_read() -> None:
    store = CountingStore()
    snapshot = Snapshot(store)
    await snapshot.current()
    reads = store.reads
    await asyncio.gather(*(snapshot.current() for _ in range(50)))
    assert store.reads == reads + 1


async def test_a_read_that_has_begun_is_not_shared_with_who_comes_later() -> None:
    store = CountingStore()
    snapshot = Snapshot(store)
    await snapshot.current()
    early = asyncio.ensure_future(snapshot.current())
    while not store.reads:
        await turns(1)
    await turns(1)
    made = await store.create("workspace", "", "team", spec())
    await snapshot.current()
    assert snapshot.find("workspace", "", "team") is made
    await early


async def test_a_cancelled_read_does_not_block_others() -> None:
    class Silent(MemoryStore):
        silent = True

        async def changes(self, after: int) -> list[Change]:
            if self.silent:
                await asyncio.Event().wait()
            return await super().changes(after)

    store = Silent()
    snapshot = Snapshot(store)
    waiting = [asyncio.ensure_future(snapshot.current()) for _ in range(3)]
    await turns(3)
    waiting.append(asyncio.ensure_future(snapshot.current()))
    await turns(1)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    store.silent = False
    await snapshot.current()


async def test_an_unavailable_store_is_reported_and_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_RETRY_S", 0.0)
    store = CountingStore()
    of = Snapshot(store)
    store.away = True
    with pytest.raises(Unavailable):
        await of.current()
    following = asyncio.create_task(of.run())
    with of.changes_of(("workspace", "", "team")) as changed:
        assert not await changed.within(0)
        made = await store.create("workspace", "", "team", spec())
        store.away = False
        assert await changed.within(10)
        assert of.find("workspace", "", "team") is made
    following.cancel()


async def test_a_slow_subscriber_gets_the_last_change_of_each_resource() -> None:
    store = MemoryStore()
    snapshot = Snapshot(store)
    await snapshot.current()
    with snapshot.subscribe() as subscription:
        made = await store.create("workspace", "", "team", spec())
        await store.create("workspace", "", "other", spec())
        await snapshot.current()
        await store.delete(made)
        await snapshot.current()
        told = await anext(subscription)
    assert [(change.name, change.deleted) for change in told] == [("other", False), ("team", True)]


async def test_an_older_store_in_its_place_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_RETRY_S", 0.0)
    store, backup = Restorable(), MemoryStore()
    for each in (store, backup):
        await each.create("workspace", "", "kept", spec())
    await backup.create("workspace", "", "lost", spec())
    of = Snapshot(store)
    for name in ("a", "b", "c"):
        await store.create("workspace", "", name, spec())
    following = asyncio.create_task(of.run())
    await of.current()
    with of.subscribe() as subscription, of.changes_of(("workspace", "", "lost")) as changed:
        store.restore(backup)
        assert await changed.within(10)
        told = {change.name: change.deleted for change in await anext(subscription)}
    assert told == {"a": True, "b": True, "c": True, "kept": False, "lost": False}
    assert [each.name for each in of.list("workspace")] == ["kept", "lost"]
    assert of.version == await backup.version()
    following.cancel()


async def test_an_unreadable_row_is_distinguished_from_a_missing_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kaon.db'}"
    store = open_store(url)
    await store.open()
    snapshot = Snapshot(store)
    for name in ("bad", "good"):
        await store.create("workspace", "", name, spec())
    with connect(url).writes.begin() as connection:
        connection.execute(update(resources).where(resources.c.name == "bad").values(spec="[]"))
    await snapshot.current()
    assert [each.name for each in snapshot.list("workspace")] == ["good"]
    assert [row.name for row in snapshot.unreadable("workspace")] == ["bad"]
    with pytest.raises(UnreadableRow):
        snapshot.find("workspace", "", "bad")
    await store.close()
