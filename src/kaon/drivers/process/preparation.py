"""An artifact made ready to run: unpacked, with its environment. Replicas of one artifact share the work."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from kaon.drivers.port import Fetch
from kaon.drivers.process.places import Places
from kaon.errors import BuildError, Unavailable
from kaon.sdk import archive
from kaon.sdk.environments import Environments
from kaon.sdk.limits import LOCK, SOURCES, WHEELS
from kaon.types.artifact import Consent
from kaon.types.service import Loop

T = TypeVar("T")

AT_ONCE = 4
"""Artifacts that are unpacked and installed at the same time; others wait."""

WITHIN_S = 1800.0
"""How long one may take, with fetching and waiting."""


@dataclass(frozen=True)
class Prepared:
    """What a start needs of an artifact."""

    entry: str
    loop: Loop
    code_dir: Path
    python: Path
    uses_any: bool


class Preparation:
    """Makes artifacts ready to run, each one once."""

    def __init__(self, places: Places, fetch: Fetch, environments: Environments, *, within_s: float = WITHIN_S) -> None:
        """Each artifact is made ready within `within_s`, or it is told why not."""
        self._within_s = within_s
        self._room = asyncio.Semaphore(AT_ONCE)
        self._places = places
        self._fetch = fetch
        self._environments = environments
        self._under_way: dict[str, asyncio.Task[Prepared]] = {}

    async def prepare(self, digest: str) -> Prepared:
        """The artifact, ready to run. Raises `BuildError`, `InvalidInput`, `NotFound` or `Unavailable`.

        Whoever gives up waiting leaves the work to the others who wait for it.
        """
        task = self._under_way.get(digest)
        if task is None:
            task = self._under_way[digest] = asyncio.create_task(self._make(digest))
            task.add_done_callback(lambda done: self._finished(digest, done))
        return await asyncio.shield(task)

    def _finished(self, digest: str, done: asyncio.Task[Prepared]) -> None:
        del self._under_way[digest]
        if not done.cancelled():
            done.exception()  # seen, even when nobody waits any more

    async def _make(self, digest: str) -> Prepared:
        target = self._places.artifact(digest)
        try:
            async with asyncio.timeout(self._within_s):
                file = target if target.exists() else await self._fetch(digest)
                return await self.in_thread(lambda: self._unpack(digest, file))
        except TimeoutError:
            raise Unavailable(
                f"It was not installed within {self._within_s / 60:.0f} minutes.",
                hint="Look whether the package index and the disk answer.",
            ) from None

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work()` gives, done in one of a few threads of its own.

        A disk or an index that hangs holds up other installs, and nothing else: not what shares the loop's executor,
        and not the end of this process. Whoever gives up waiting leaves the thread its place until it has ended.
        """
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def done(value: T | None, error: Exception | None) -> None:
            self._room.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, failed = None, None
            try:
                value = work()
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done, value, failed)

        try:
            threading.Thread(target=run, name="install", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            raise Unavailable(f"No thread can be started: {error}.", hint="Look at the machine's limits.") from None
        return await answer

    def _unpack(self, digest: str, file: Path) -> Prepared:
        """Unpack and install. The downloaded file goes with it: it is of no use any more, or was not whole."""
        target = self._places.artifact(digest)
        try:
            manifest = archive.extract(file, target, digest=digest)
        except ValidationError:
            raise BuildError(
                "The artifact was made by another version of Kaon, and this one cannot read its manifest.",
                hint="Deploy it again.",
            ) from None
        finally:
            if file != target:
                file.unlink(missing_ok=True)
        python = Path(sys.executable)
        if manifest.lock:
            python = self._environments.ensure(
                (target / LOCK).read_text(),
                wheels=[target / WHEELS],
                allow_sdist=Consent.SDIST in manifest.allowed,
            )
        target.touch()  # used now: pruning goes by it
        return Prepared(
            entry=manifest.service.entry,
            loop=manifest.service.loop,
            code_dir=target / SOURCES,
            python=python,
            uses_any=manifest.service.uses is None,
        )
