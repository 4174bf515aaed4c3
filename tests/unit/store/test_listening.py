"""PostgreSQL notifies watchers of what other processes commit, also after the connection for that was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from tests.waiting import until

from kaon.store import listening, open_store
from kaon.store.port import Change, Store
from kaon.types.workspace import WorkspaceSpec

LISTENS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"


@pytest.fixture(autouse=True)
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "SLOW_POLL_S", 3600.0)


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[tuple[Store, Store]]:
    """One database, opened twice as two processes would."""
    first, second = open_store(postgres_url), open_store(postgres_url)
    await first.open()
    await second.open()
    yield first, second
    await first.close()
    await second.close()


async def listener(connection: psycopg.AsyncConnection[tuple[int]], other_than: int = 0) -> int:
    """The backend that a watcher listens by, once there is one."""

    async def other() -> int:
        pids = await (await connection.execute(LISTENS)).fetchall()
        return next((pid for (pid,) in pids if pid != other_than), 0)

    return int(await until(other, "somebody listens"))


async def next_names(changes: AsyncIterator[Sequence[Change]]) -> list[str]:
    return [change.name for change in await asyncio.wait_for(anext(changes), 30)]


async def test_a_commit_of_another_process_is_notified(stores: tuple[Store, Store], postgres_url: str) -> None:
    ours, theirs = stores
    changes = ours.watch(await ours.version())
    waiting = asyncio.ensure_future(next_names(changes))
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await listener(connection)
        await theirs.create("workspace", "", "one", WorkspaceSpec())
        assert await waiting == ["one"]
        await theirs.create("workspace", "", "two", WorkspaceSpec())
        assert await next_names(changes) == ["two"]
    await changes.aclose()  # type: ignore[attr-defined]


async def test_it_is_notified_again_after_the_connection_was_lost(
    stores: tuple[Store, Store], postgres_url: str
) -> None:
    ours, theirs = stores
    changes = ours.watch(await ours.version())
    waiting = asyncio.ensure_future(next_names(changes))
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        lost = await listener(connection)
        await connection.execute("SELECT pg_terminate_backend(%s)", (lost,))
        await theirs.create("workspace", "", "meanwhile", WorkspaceSpec())
        assert await waiting == ["meanwhile"]
        await listener(connection, other_than=lost)
        waiting = asyncio.ensure_future(next_names(changes))
        await theirs.create("workspace", "", "later", WorkspaceSpec())
        assert await waiting == ["later"]
    await changes.aclose()  # type: ignore[attr-defined]


async def test_without_notifications_watchers_look_by_themselves(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a proxy that passes none on."""
    monkeypatch.setattr(listening, "SLOW_POLL_S", 0.05)
    monkeypatch.setattr(listening, "CHANNEL", "another_channel")
    ours, theirs = stores
    changes = ours.watch(await ours.version())
    waiting = asyncio.ensure_future(next_names(changes))
    await theirs.create("workspace", "", "one", WorkspaceSpec())
    assert await waiting == ["one"]
    await changes.aclose()  # type: ignore[attr-defined]
