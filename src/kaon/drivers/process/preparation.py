"""An artifact made ready to run: unpacked, with its environment. Replicas of one artifact share the work."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from kaon.drivers.port import Fetch
from kaon.drivers.process.places import Places
from kaon.sdk import archive
from kaon.sdk.environments import Environments
from kaon.sdk.limits import LOCK, SOURCES, WHEELS
from kaon.types.artifact import Consent
from kaon.types.service import Loop


@dataclass(frozen=True)
class Prepared:
    """What a start needs of an artifact."""

    entry: str
    loop: Loop
    code_dir: Path
    python: Path


class Preparation:
    """Makes artifacts ready to run, each one once."""

    def __init__(self, places: Places, fetch: Fetch, environments: Environments) -> None:
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
        file = target if target.exists() else await self._fetch(digest)
        return await asyncio.to_thread(self._unpack, digest, file)

    def _unpack(self, digest: str, file: Path) -> Prepared:
        target = self._places.artifact(digest)
        manifest = archive.extract(file, target, digest=digest)
        python = Path(sys.executable)
        if manifest.lock:
            python = self._environments.ensure(
                (target / LOCK).read_text(),
                wheels=[target / WHEELS],
                allow_sdist=Consent.SDIST in manifest.allowed,
            )
        target.touch()  # used now: pruning goes by it
        return Prepared(
            entry=manifest.service.entry, loop=manifest.service.loop, code_dir=target / SOURCES, python=python
        )
