"""The loop of every reconciler.

A queue has keys, not events: a key means "reconcile this", and reconciling reads the current state from the snapshot of
the store. So ten changes of one key are one run, a lost wake-up only costs time (everything is reconciled
every `RESYNC_S`), and the next run repairs the effect of a crash between any two writes.

A failing key is retried with increasing delay, without delaying others. A `Conflict` is no failure: another writer was
faster, so the key is retried at once, a few times. Loops run under `kaon.control.supervisor`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from kaon.clock import Clock
from kaon.control.supervisor import Supervisor
from kaon.errors import Conflict, KaonError
from kaon.store.port import Change
from kaon.store.snapshot import Snapshot
from kaon.types.names import DeploymentKey

RESYNC_S = 30.0
CONFLICTS = 5
"""Conflicts in a row at one key; one more is a failure."""


class Again(NamedTuple):
    """Reconcile the key again after so many seconds."""

    after_s: float


class Reconciler(Protocol):
    """Brings the state of one key to its spec."""

    name: str

    async def keys(self) -> Collection[DeploymentKey]:
        """All keys that may need work."""
        ...

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The keys that may need work after changes."""
        ...

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Read the state of `key` and make what is missing; None: nothing more to do."""
        ...


class KeyQueue:
    """Waiting keys, each once; a key in work is handed out again only after `done`."""

    def __init__(self) -> None:
        self._waiting: dict[DeploymentKey, None] = {}
        self._working: set[DeploymentKey] = set()
        self._again: set[DeploymentKey] = set()
        self._filled = asyncio.Event()

    def add(self, key: DeploymentKey) -> None:
        """Queue `key`."""
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._filled.set()

    async def take(self) -> DeploymentKey:
        """The key that waited longest; call `done` afterwards."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: DeploymentKey) -> None:
        """End the work on `key`."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)


class ReconcileLoop:
    """Runs one reconciler: wakes it by changes, by time and by resync; retries what fails."""

    def __init__(
        self,
        reconciler: Reconciler,
        snapshot: Snapshot,
        clock: Clock,
        *,
        supervisor: Supervisor | None = None,
        failed: Callable[[DeploymentKey], Awaitable[None]] | None = None,
        workers: int = 2,
    ) -> None:
        """`failed` is called for a key after each failure at it; what it raises is logged."""
        self._reconciler = reconciler
        self._snapshot = snapshot
        self._clock = clock
        self._supervisor = supervisor or Supervisor(clock)
        self._failed = failed
        self._workers = workers
        self._queue = KeyQueue()
        self._behind = asyncio.Event()
        """Set when changes may have been missed: all keys are queued."""
        self._failures: dict[DeploymentKey, int] = {}
        self._conflicts: Counter[DeploymentKey] = Counter()
        self._timers: dict[DeploymentKey, asyncio.Task[None]] = {}

    def wake(self, key: DeploymentKey) -> None:
        """Queue `key`."""
        self._queue.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        work = [self._follow, self._catch_up, self._resync, *[self._work] * self._workers]
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in work:
                    tasks.create_task(self._supervisor.keep(self._reconciler.name, each))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _follow(self) -> None:
        with self._snapshot.subscribe() as subscription:
            await self._snapshot.current()
            self._behind.set()
            async for changes in subscription:
                self._add(await self._affected(changes))

    async def _affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The keys affected by changes. A failure at one change does not hide the keys of others."""
        try:
            return await self._reconciler.affected(changes)
        except Exception as error:
            if len(changes) > 1:
                return {key for change in changes for key in await self._affected([change])}
            self._supervisor.note(self._reconciler.name, None, error)
            self._behind.set()
            return ()

    async def _catch_up(self) -> None:
        await self._behind.wait()
        self._behind.clear()
        try:
            self._add(await self._reconciler.keys())
        except Exception:
            self._behind.set()
            raise

    async def _resync(self) -> None:
        await self._clock.sleep(RESYNC_S)
        self._behind.set()

    async def _work(self) -> None:
        key = await self._queue.take()
        try:
            await self._look(key)
        finally:
            self._queue.done(key)

    async def _look(self, key: DeploymentKey) -> None:
        name = self._reconciler.name
        try:
            again = await self._reconciler.reconcile(key)
        except Exception as error:  # a failure of one key must not stop the others
            if isinstance(error, Conflict) and self._conflicts[key] < CONFLICTS:
                self._conflicts[key] += 1
                with suppress(KaonError):  # an outdated snapshot would cause the same conflict again
                    await self._snapshot.current()
                self._queue.add(key)
                return
            await self._fail(key, error)
            return
        self._failures.pop(key, None)
        self._conflicts.pop(key, None)
        self._supervisor.settle(name, key)
        if again is not None:
            self._later(key, again.after_s)

    async def _fail(self, key: DeploymentKey, error: Exception) -> None:
        self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = self._supervisor.wait_s(self._failures[key])
        self._supervisor.note(self._reconciler.name, key, error, wait_s)
        self._later(key, wait_s)
        if self._failed is not None:
            try:
                await self._failed(key)
            except Exception as further:
                self._supervisor.note(self._reconciler.name, None, further)

    def _add(self, keys: Collection[DeploymentKey]) -> None:
        for key in keys:
            self._queue.add(key)

    def _later(self, key: DeploymentKey, delay: float) -> None:
        """Queue `key` after `delay` seconds, instead of an earlier timer."""
        if waiting := self._timers.pop(key, None):
            waiting.cancel()
        self._timers[key] = asyncio.create_task(self._ripen(key, delay))

    async def _ripen(self, key: DeploymentKey, delay: float) -> None:
        await self._clock.sleep(delay)
        self._timers.pop(key, None)
        self._queue.add(key)
