"""The loop that every reconciler runs in.

A queue holds keys, not events: a key says "look at this again", and looking reads the whole truth from the
snapshot of the store. So ten changes of one thing are one look, a lost wake-up costs nothing but time (everything is
looked at anew every `RESYNC_S`), and a crash between any two writes is healed by the next look.

A key that fails waits longer each time, by itself: the others go on. A `Conflict` is no failure: somebody
else was quicker, so the key is looked at again at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from kaon import log
from kaon.clock import Clock
from kaon.errors import Conflict, KaonError
from kaon.laws.backoff import Backoff, delay_s
from kaon.store.port import Change
from kaon.store.snapshot import Snapshot

RESYNC_S = 30.0
RETRY = Backoff(first_s=0.2, cap_s=30.0)

Key = tuple[str, str]
"""Workspace and name."""


class Again(NamedTuple):
    """Look at the key again after so many seconds, whatever happens until then."""

    after_s: float


class Reconciler(Protocol):
    """Makes the world of one key as it should be."""

    name: str

    async def keys(self) -> Collection[Key]:
        """All keys that there may be work for, now."""
        ...

    async def affected(self, changes: Sequence[Change]) -> Collection[Key]:
        """The keys that changes may make work for."""
        ...

    async def reconcile(self, key: Key) -> Again | None:
        """Look at the world of `key` and make what is missing; None when there is nothing more to do."""
        ...


class KeyQueue:
    """Keys that wait, each once; one that is being worked on is handed out again only afterwards."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}
        self._working: set[Key] = set()
        self._anew: set[Key] = set()
        self._filled = asyncio.Event()

    def add(self, key: Key) -> None:
        """Let `key` be looked at."""
        if key in self._working:
            self._anew.add(key)
        else:
            self._waiting[key] = None
            self._filled.set()

    async def take(self) -> Key:
        """The key that waited longest; `done` must follow."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """The work on `key` has ended."""
        self._working.discard(key)
        if key in self._anew:
            self._anew.discard(key)
            self.add(key)


class Loop:
    """Runs one reconciler: wakes it by changes, by time and by resync; retries what fails."""

    def __init__(
        self,
        reconciler: Reconciler,
        snapshot: Snapshot,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        workers: int = 2,
    ) -> None:
        self._reconciler = reconciler
        self._snapshot = snapshot
        self._clock = clock
        self._jitter = jitter
        self._workers = workers
        self._queue = KeyQueue()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.Task[None]] = {}
        self._log = log.get(f"control.{reconciler.name}")

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._resync())
                for _ in range(self._workers):
                    tasks.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                with self._snapshot.subscribe() as subscription:
                    await self._snapshot.current()
                    self._add(await self._reconciler.keys())
                    failures = 0
                    async for changes in subscription:
                        self._add(await self._reconciler.affected(changes))
            except KaonError as error:
                failures += 1
                self._log.warning("cannot follow changes", cause=error.cause)
                await self._clock.sleep(delay_s(RETRY, failures, self._jitter()))

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(RESYNC_S)
            try:
                self._add(await self._reconciler.keys())
            except KaonError as error:
                self._log.warning("cannot resync", cause=error.cause)

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self._look(key)
            finally:
                self._queue.done(key)

    async def _look(self, key: Key) -> None:
        try:
            again = await self._reconciler.reconcile(key)
        except Conflict:
            with suppress(KaonError):  # who is not up to date would only meet the same conflict again
                await self._snapshot.current()
            self._queue.add(key)
            return
        except Exception as error:  # one key's failure, even a bug's, is not the others'
            self._failures[key] = self._failures.get(key, 0) + 1
            wait_s = delay_s(RETRY, self._failures[key], self._jitter())
            if isinstance(error, KaonError):
                self._log.warning("failed, will retry", key=key, cause=error.cause, wait_s=wait_s)
            else:
                self._log.exception("failed, will retry", key=key, wait_s=wait_s)
            self._later(key, wait_s)
            return
        self._failures.pop(key, None)
        if again is not None:
            self._later(key, again.after_s)

    def _add(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._queue.add(key)

    def _later(self, key: Key, delay: float) -> None:
        """Add `key` after `delay` seconds, in place of an earlier wish to."""
        if waiting := self._timers.pop(key, None):
            waiting.cancel()
        self._timers[key] = asyncio.create_task(self._ripen(key, delay))

    async def _ripen(self, key: Key, delay: float) -> None:
        await self._clock.sleep(delay)
        self._timers.pop(key, None)
        self._queue.add(key)
