"""Group commit: one thread takes all writes that wait, runs them in one transaction, commits once, then answers.

A commit that survives a power cut waits for the disk: 3 ms here, so one by one at most 320 writes a second.
While one batch waits for the disk the next one gathers, so the cost is shared without waiting for a timer.
Each write has a savepoint: one that fails does not affect the others. Writes are acknowledged after the commit; when
the commit fails, the whole batch fails.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from kaon.errors import InvalidInput, KaonError, Unavailable
from kaon.store.database import Database, explain
from kaon.store.port import AnyResource
from kaon.store.schema import counters
from kaon.types.names import ResourceKey

BATCH = 256


CHANNEL = "kaon_changes"
"""Channel of PostgreSQL's notifications of commits that changed something."""


class Transaction:
    """The context of writes: the connection, the newest version, the epoch and the newest event's id."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.written: dict[ResourceKey, AnyResource] = {}
        """The written resources, so that this process need not read their rows."""
        # The rows' locks are held to the end of the transaction: a reader of a version sees all earlier ones.
        rows = connection.execute(select(counters.c.name, counters.c.value).order_by(counters.c.name).with_for_update())
        values = {name: int(value) for name, value in rows}
        self.epoch = values["epoch"]
        self.version = self._first = values["version"]
        self._event = values["event"]

    def next_version(self) -> int:
        """A new version, above all others."""
        self.version += 1
        return self.version

    def note(self, made: AnyResource) -> None:
        """Record a written resource."""
        self.written[made.kind, made.workspace, made.name] = made

    def back_to(self, version: int) -> None:
        """Undo what was written after `version`."""
        self.version = version
        self.written = {place: made for place, made in self.written.items() if made.version <= version}

    def event_ids(self, count: int) -> range:
        """The ids of the next events: above all others, including deleted ones."""
        first, self._event = self._event + 1, self._event + count
        self.connection.execute(update(counters).where(counters.c.name == "event").values(value=self._event))
        return range(first, self._event + 1)

    def advance_epoch(self) -> int:
        """Start a new epoch and return it."""
        self.epoch += 1
        self.connection.execute(update(counters).where(counters.c.name == "epoch").values(value=self.epoch))
        return self.epoch

    def finish(self) -> None:
        """Store the newest version, and notify other processes at the commit."""
        if self.version == self._first:
            return
        self.connection.execute(update(counters).where(counters.c.name == "version").values(value=self.version))
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(select(func.pg_notify(CHANNEL, str(self.version))))


WriteWork = Callable[[Transaction], Any]


class _Write(NamedTuple):
    work: WriteWork
    answer: Future[Any]


class Writer:
    """The only writer of a database in this process."""

    def __init__(self, database: Database, committed: Callable[[Transaction], None]) -> None:
        """`committed` is called on the writer's thread with each transaction, before the results are returned."""
        self._database = database
        self._committed = committed
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: WriteWork) -> Future[Any]:
        """The result of `work` once it is on the disk; or its `KaonError`; or `Unavailable`."""
        answer: Future[Any] = Future()
        self._waiting.put(_Write(work, answer))
        return answer

    def close(self) -> None:
        """Finish what was accepted. Blocks."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            batch = [write for write in batch if write.answer.set_running_or_notify_cancel()]
            if batch:
                for write, outcome in zip(batch, self._commit(batch), strict=True):
                    if isinstance(outcome, BaseException):
                        write.answer.set_exception(outcome)
                    else:
                        write.answer.set_result(outcome)

    def _take(self) -> tuple[list[_Write], bool]:
        """All waiting writes, at least one; and whether the writer is still open."""
        first = self._waiting.get()
        batch: list[_Write] = []
        while first is not None:
            batch.append(first)
            try:
                if len(batch) == BATCH:
                    return batch, True
                first = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Write]) -> list[Any]:
        try:
            with self._database.writes.begin() as connection:
                transaction = Transaction(connection)
                outcomes = [_attempt(transaction, write.work) for write in batch]
                transaction.finish()
        except SQLAlchemyError as error:
            self._database.writes.dispose()  # whatever state the connection is in, the next one is fresh
            return [explain(error, self._database)] * len(batch)
        except Exception as error:
            self._database.writes.dispose()
            return [Unavailable(f"The store failed: {type(error).__name__}.")] * len(batch)
        self._committed(transaction)
        return outcomes


def _attempt(transaction: Transaction, work: WriteWork) -> Any:
    version = transaction.version
    try:
        with transaction.connection.begin_nested():
            return work(transaction)
    except KaonError as error:
        refused: Exception = error
    except (DataError, IntegrityError):
        refused = InvalidInput("The database does not accept this value.", hint="Remove control characters from it.")
    except (TypeError, ValueError) as error:
        refused = error
    transaction.back_to(version)
    return refused
