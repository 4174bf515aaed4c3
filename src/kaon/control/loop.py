"""The loop that every reconciler runs in.

A queue holds keys, not events: a key says "look at this again", and looking reads the whole truth from the
snapshot of the store. So ten changes of one thing are one look, a lost wake-up costs nothing but time (everything is
looked at anew every `RESYNC_S`), and a crash between any two writes is healed by the next look.

A key that fails waits longer each time, by itself: the others go on. A `Conflict` is no failure: somebody
else was quicker, so the key is looked at again at once, a few times. All that a loop does runs under
`kaon.control.supervisor`.
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
"""In a row at one key; one more is a failure."""


class Again(NamedTuple):
    """Look at the key again after so many seconds, whatever happens until then."""

    after_s: float


class Reconciler(Protocol):
    """Makes the world of one key as it should be."""

    name: str

    async def keys(self) -> Collection[DeploymentKey]:
        """All keys that there may be work for, now."""
        ...

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The keys that changes may make work for."""
        ...

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Look at the world of `key` and make what is missing; None when there is nothing more to do."""
        ...


class KeyQueue:
    """Keys that wait, each once; one that is being worked on is handed out again only afterwards."""

    def __init__(self) -> None:
        self._waiting: dict[DeploymentKey, None] = {}
        self._working: set[DeploymentKey] = set()
        self._anew: set[DeploymentKey] = set()
        self._filled = asyncio.Event()

    def add(self, key: DeploymentKey) -> None:
        """Let `key` be looked at."""
        if key in self._working:
            self._anew.add(key)
        else:
            self._waiting[key] = None
            self._filled.set()

    async def take(self) -> DeploymentKey:
        """The key that waited longest; `done` must follow."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: DeploymentKey) -> None:
        """The work on `key` has ended."""
        self._working.discard(key)
        if key in self._anew:
            self._anew.discard(key)
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
        """Set when changes may have gone by: all keys are to be looked at."""
        self._failures: dict[DeploymentKey, int] = {}
        self._conflicts: Counter[DeploymentKey] = Counter()
        self._timers: dict[DeploymentKey, asyncio.Task[None]] = {}

    def wake(self, key: DeploymentKey) -> None:
        """Let `key` be looked at."""
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
        """The keys that changes make work for. One change that it fails at keeps no other's keys from being found."""
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
        except Exception as error:  # one key's failure, even a bug's, is not the others'
            if isinstance(error, Conflict) and self._conflicts[key] < CONFLICTS:
                self._conflicts[key] += 1
                with suppress(KaonError):  # who is not up to date would only meet the same conflict again
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
        """Add `key` after `delay` seconds, in place of an earlier wish to."""
        if waiting := self._timers.pop(key, None):
            waiting.cancel()
        self._timers[key] = asyncio.create_task(self._ripen(key, delay))

    async def _ripen(self, key: DeploymentKey, delay: float) -> None:
        await self._clock.sleep(delay)
        self._timers.pop(key, None)
        self._queue.add(key)
