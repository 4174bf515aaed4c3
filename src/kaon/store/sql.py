"""The store in a database: SQLite or PostgreSQL.

All writes of a process go through one `Writer`; reads run on a few threads beside it and never wait for it.
A watcher is woken by the commits of its own process at once, and finds those of others by asking for the
newest version every `POLL_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from kaon.clock import Clock
from kaon.errors import Unavailable
from kaon.laws.retention import Keep
from kaon.store import history, retention, statements
from kaon.store.database import READERS, connect, explain, prepare
from kaon.store.port import AnyResource, Change, Unreadable
from kaon.store.records import missing
from kaon.store.writer import Place, Transaction, Writer
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.traffic import Sample

POLL_S = 0.25
PATIENCE_S = 8.0
"""No call lasts longer; one that would raises `Unavailable`. It is more than `BUSY_S`."""

T = TypeVar("T")


class SqlStore:
    """`Store` in SQLite or PostgreSQL."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._database = connect(url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._written: dict[Place, AnyResource] = {}
        self._newest_written = 0
        self._watchers = 0
        self._poller: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See `Store.open`. Raises `Unavailable`, and `ConfigError` for a database of a newer Kaon."""
        self._loop = asyncio.get_running_loop()
        await self._ask(self._readers.submit(self._guarded, lambda: prepare(self._database)))
        if self._writer is None:
            self._writer = Writer(self._database, self._committed)
        with suppress(Unavailable):  # a disk that is full now is no reason not to read
            await self._write(lambda tx: statements.forget_deleted(tx, self._clock.now()))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
            self._writer = None
        await asyncio.to_thread(self._readers.shutdown)
        self._database.reads.dispose()
        self._database.writes.dispose()

    async def get(self, kind: str, workspace: str, name: str) -> AnyResource:
        """See `Store.get`."""
        found = await self.find(kind, workspace, name)
        if found is None:
            raise missing(kind, workspace, name)
        return found

    async def find(self, kind: str, workspace: str, name: str) -> AnyResource | None:
        """See `Store.find`."""
        return await self._read(lambda c: statements.find(c, kind, workspace, name))

    async def list_all(
        self, kind: str, workspace: str | None = None, *, unreadable: list[Unreadable] | None = None
    ) -> list[AnyResource]:
        """See `Store.list_all`."""
        return await self._read(lambda c: statements.list_all(c, kind, workspace, unreadable))

    async def create(
        self, kind: str, workspace: str, name: str, spec: BaseModel, status: BaseModel | None = None
    ) -> AnyResource:
        """See `Store.create`."""
        now = self._clock.now()
        return await self._write(lambda tx: statements.create(tx, now, kind, workspace, name, spec, status))

    async def update_spec(self, resource: AnyResource, spec: BaseModel) -> AnyResource:
        """See `Store.update_spec`."""
        return await self._write(lambda tx: statements.update_spec(tx, self._clock.now(), resource, spec))

    async def update_status(self, resource: AnyResource, status: BaseModel) -> AnyResource:
        """See `Store.update_status`."""
        return await self._write(lambda tx: statements.update_status(tx, self._clock.now(), resource, status))

    async def delete(self, resource: AnyResource | Unreadable) -> None:
        """See `Store.delete`."""
        await self._write(lambda tx: statements.remove(tx, self._clock.now(), resource))

    @property
    def written(self) -> int:
        """See `Store.written`."""
        return self._newest_written

    async def version(self) -> int:
        """See `Store.version`."""
        return await self._read(statements.newest_version)

    async def changes(self, after: int) -> list[Change]:
        """See `Store.changes`."""
        return await self._read(lambda c: statements.changes_after(c, after, self._written))

    async def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """See `Store.watch`. While the database is away it waits."""
        self._watchers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            while True:
                news = self._news
                changes = await self._changes_when_there(after)
                if changes:
                    after = changes[-1].version
                    yield changes
                else:
                    await news.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._poller is not None:
                self._poller.cancel()
                self._poller = None
                self._written.clear()

    async def _changes_when_there(self, after: int) -> list[Change]:
        while True:
            try:
                return await self.changes(after)
            except Unavailable:
                await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        """Tell watchers of what other processes wrote; one question for all of them."""
        known = 0
        while True:
            await asyncio.sleep(POLL_S)
            try:
                newest = await self.version()
            except Unavailable:
                continue
            if newest != known:
                known = newest
                self._tell()

    async def record(self, events: Sequence[Event]) -> None:
        """See `Store.record`."""
        if events:
            await self._write(lambda tx: statements.record(tx, events))

    async def events(
        self, workspace: str, kind: str | None = None, name: str | None = None, limit: int = 100
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._read(lambda c: statements.newest_events(c, workspace, kind, name, limit))

    async def keep_traffic(self, minutes: Sequence[Sample]) -> None:
        """See `Store.keep_traffic`."""
        if minutes:
            await self._write(lambda tx: history.keep_traffic(tx, self._clock.now(), minutes))

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """See `Store.traffic`."""
        return await self._read(lambda c: history.traffic(c, workspace, deployment, since_s))

    async def keep_journal(self, entries: Sequence[JournalEntry]) -> None:
        """See `Store.keep_journal`."""
        if entries:
            await self._write(lambda tx: history.keep_journal(tx, entries))

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """See `Store.journal`."""
        return await self._read(lambda c: history.journal(c, workspace, deployment, concern, limit))

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """See `Store.outdated`."""
        return await self._read(lambda c: retention.outdated(c, self._clock.now(), keep))

    async def sweep(self, keep: Keep) -> dict[str, int]:
        """See `Store.sweep`."""
        return await self._write(lambda tx: retention.sweep(tx.connection, self._clock.now(), keep))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._database.reads.connect() as connection:
                return query(connection)

        if self._writer is None:
            raise Unavailable("The store is closed.")
        return await self._ask(self._readers.submit(self._guarded, run))

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            raise Unavailable("The store is closed.")
        return await self._ask(self._writer.submit(work))

    async def _ask(self, answer: Future[T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_S):  # `wait_for` of Python 3.11 can lose a cancellation
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            cause = f"The store at {self._database.place} did not answer within {PATIENCE_S:g} s."
            raise Unavailable(cause, hint="Whether a change was made is not known: read it again.") from None

    def _guarded(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except (SQLAlchemyError, OSError) as error:
            raise explain(error, self._database) from None

    def _committed(self, transaction: Transaction) -> None:
        """Called on the writer's thread after each commit."""
        if self._watchers:  # else nobody would ever take them
            self._written.update(transaction.written)
        self._newest_written = transaction.version
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        told, self._news = self._news, asyncio.Event()
        told.set()
