"""The store in a database: SQLite or PostgreSQL.

All writes of a process go through one `Writer`; reads run on a few threads beside it and never wait for it.
A watcher is woken by commits of its own process at once. PostgreSQL notifies it of commits of other processes; with
SQLite it polls the newest version every `POLL_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from kaon import log
from kaon.clock import Clock
from kaon.errors import Unavailable
from kaon.laws.retention import Keep
from kaon.store import history, retention, statements
from kaon.store.audit import audit as read_audit
from kaon.store.database import READERS, connect, explain, prepare
from kaon.store.listening import notifications
from kaon.store.port import AnyResource, AuditQuery, AuditRetention, Change
from kaon.store.records import check_epoch, missing
from kaon.store.single import SingleWrites
from kaon.store.writer import Transaction, Writer
from kaon.store.writes import Write
from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.names import ResourceKey
from kaon.types.resource import Unreadable
from kaon.types.traffic import Sample

POLL_S = 0.25
LISTEN_AGAIN_S = 1.0
"""Delay after the connection for notifications was lost."""
PATIENCE_S = 8.0
"""Time limit of a call, after which it raises `Unavailable`. Longer than `BUSY_S`."""

T = TypeVar("T")


class SqlStore(SingleWrites):
    """`Store` in SQLite or PostgreSQL."""

    def __init__(self, url: str, clock: Clock, audit: AuditRetention) -> None:
        self._clock = clock
        self._database = connect(url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._audit = audit
        self._news = asyncio.Event()
        self._notified_version = 0
        """The newest version that watchers were woken for."""
        self._written: dict[ResourceKey, AnyResource] = {}
        self._newest_written = 0
        self._watchers = 0
        self._poller: asyncio.Task[None] | None = None
        self._log = log.get("store")

    async def open(self) -> None:
        """See `Store.open`. Raises `Unavailable`, and `ConfigError` for a database of a newer Kaon."""
        self._loop = asyncio.get_running_loop()
        await self._result(self._readers.submit(self._guarded, lambda: prepare(self._database)))
        if self._writer is None:
            self._writer = Writer(self._database, self._committed)
        with suppress(Unavailable):  # a full disk must not prevent reading
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

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        """See `Store.write`."""
        if not writes:
            return []
        now = self._clock.now()

        def work(tx: Transaction) -> list[AnyResource]:
            check_epoch(epoch, tx.epoch)
            made = (statements.apply(tx, now, write, self._audit) for write in writes)
            return [resource for resource in made if resource is not None]

        return await self._write(work)

    @property
    def written(self) -> int:
        """See `Store.written`."""
        return self._newest_written

    async def version(self) -> int:
        """See `Store.version`."""
        return await self._read(lambda c: statements.counter(c, "version"))

    async def epoch(self) -> int:
        """See `Store.epoch`."""
        return await self._read(lambda c: statements.counter(c, "epoch"))

    async def advance_epoch(self) -> int:
        """See `Store.advance_epoch`."""
        return await self._write(lambda tx: tx.advance_epoch())

    async def changes(self, after: int) -> list[Change]:
        """See `Store.changes`."""
        return await self._read(lambda c: statements.changes_after(c, after, self._written))

    async def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        """See `Store.watch`. It waits while the database is unavailable."""
        self._watchers += 1
        if self._poller is None:
            follow = self._poll if self._database.reads.dialect.name == "sqlite" else self._listen
            self._poller = asyncio.create_task(follow())
        try:
            while True:
                news = self._news
                changes = await self._changes_when_available(after)
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

    async def _changes_when_available(self, after: int) -> list[Change]:
        while True:
            try:
                return await self.changes(after)
            except Unavailable:
                await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        """Wake watchers after writes of other processes; one query for all of them."""
        while True:
            await asyncio.sleep(POLL_S)
            with suppress(Unavailable):
                self._notify(await self.version())

    async def _listen(self) -> None:
        """The same with notifications of the database. Without them watchers poll."""
        listens = True
        while True:
            try:
                async with aclosing(notifications(self._database)) as notified:
                    async for version in notified:
                        listens = True
                        self._notify(version)
            except Exception as error:  # polling works without notifications
                if listens:
                    self._log.warning("changes of other servers are polled for", error=type(error).__name__)
                listens = False
            self._notify(None)
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def events(
        self,
        workspace: str,
        kind: str | None = None,
        name: str | None = None,
        limit: int = 100,
        *,
        after: int | None = None,
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._read(lambda c: statements.read_events(c, workspace, kind, name, limit, after))

    async def traffic(self, workspace: str, deployment: str, since_s: float) -> list[Sample]:
        """See `Store.traffic`."""
        return await self._read(lambda c: history.traffic(c, workspace, deployment, since_s))

    async def journal(
        self, workspace: str, deployment: str, concern: str | None = None, limit: int = 100
    ) -> list[JournalEntry]:
        """See `Store.journal`."""
        return await self._read(lambda c: history.journal(c, workspace, deployment, concern, limit))

    async def audit(self, query: AuditQuery) -> list[AuditRecord]:
        """See `Store.audit`."""
        return await self._read(lambda c: read_audit(c, query))

    async def outdated(self, keep: Keep) -> dict[str, int]:
        """See `Store.outdated`."""
        return await self._read(lambda c: retention.outdated(c, self._clock.now(), keep))

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        """See `Store.sweep`."""

        def work(tx: Transaction) -> dict[str, int]:
            check_epoch(epoch, tx.epoch)
            return retention.sweep(tx.connection, self._clock.now(), keep)

        return await self._write(work)

    async def _read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._database.reads.connect() as connection:
                return query(connection)

        if self._writer is None:
            raise Unavailable("The store is closed.")
        return await self._result(self._readers.submit(self._guarded, run))

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            raise Unavailable("The store is closed.")
        return await self._result(self._writer.submit(work))

    async def _result(self, future: Future[T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_S):  # `wait_for` of Python 3.11 can lose a cancellation
                return await asyncio.wrap_future(future)
        except TimeoutError:
            cause = f"The store at {self._database.place} did not answer within {PATIENCE_S:g} s."
            raise Unavailable(cause, hint="It is unknown whether the change was made: read it again.") from None

    def _guarded(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except (SQLAlchemyError, OSError) as error:
            raise explain(error, self._database) from None

    def _committed(self, transaction: Transaction) -> None:
        """Called on the writer's thread after each commit."""
        if self._watchers:  # only watchers take them out
            self._written.update(transaction.written)
        self._newest_written = transaction.version
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._notify, transaction.version)

    def _notify(self, version: int | None) -> None:
        """Wake the watchers, unless they were woken since the commit of `version`; None: always."""
        if version is not None:
            if version <= self._notified_version:
                return
            self._notified_version = version
        previous, self._news = self._news, asyncio.Event()
        previous.set()
