"""Artifacts made ready to run, by one preparer after the other. Replicas of one artifact share the work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from kaon.build import archive
from kaon.build.environments import Environments
from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, WHEELS, ArtifactLimits
from kaon.drivers.port import Fetch
from kaon.drivers.process.places import Places
from kaon.drivers.process.workers import Workers
from kaon.errors import BuildError, Unavailable
from kaon.types.artifact import Consent, Manifest
from kaon.types.replica import INSTALL_LIMIT_S

AT_ONCE = 4
"""Artifacts that are unpacked and installed at the same time; others wait."""

OnProgress = Callable[[str], None]
"""Takes what is being done now, in a few words. It may be called from any thread."""


@dataclass(frozen=True)
class Prepared:
    """What a start needs, as far as it is ready."""

    digest: str
    folder: Path
    manifest: Manifest | None = None
    python: Path = Path(sys.executable)

    @property
    def code_dir(self) -> Path:
        """What is put first on sys.path."""
        return self.folder / SOURCES


class Preparer(Protocol):
    """One part of what a start needs."""

    name: str

    async def prepare(self, so_far: Prepared, progress: OnProgress) -> Prepared:
        """`so_far` with this part. Raises `BuildError`, `InvalidInput`, `NotFound` or `Unavailable`."""
        ...


class ArtifactPreparer:
    """Fetches and unpacks the artifact."""

    name = "artifact"

    def __init__(self, fetch: Fetch, workers: Workers, limits: ArtifactLimits) -> None:
        self._fetch = fetch
        self._limits = limits
        self._workers = workers

    async def prepare(self, so_far: Prepared, progress: OnProgress) -> Prepared:
        there = so_far.folder.exists()
        if not there:
            progress("fetching the artifact")
        file = so_far.folder if there else await self._fetch(so_far.digest)
        if not there:
            progress("unpacking the artifact")
        return replace(so_far, manifest=await self._workers.run(lambda: _unpacked(so_far, file, self._limits)))


class EnvironmentPreparer:
    """Makes the environment of the artifact's lock."""

    name = "environment"

    def __init__(self, environments: Environments, workers: Workers) -> None:
        self._environments = environments
        self._workers = workers

    async def prepare(self, so_far: Prepared, progress: OnProgress) -> Prepared:
        manifest, folder = so_far.manifest, so_far.folder
        assert manifest is not None, "the artifact is prepared first"

        def installed() -> Path:
            return self._environments.ensure(
                (folder / LOCK).read_text() if manifest.lock else "",
                wheels=[folder / WHEELS],
                allow_sdist=Consent.SDIST in manifest.allowed,
                progress=progress,
            )

        return replace(so_far, python=await self._workers.run(installed))


@dataclass
class _UnderWay:
    """One artifact that is being made ready, and all who want to hear how it goes."""

    task: asyncio.Task[Prepared] | None = None
    listeners: list[OnProgress] = field(default_factory=list)
    last: str = ""

    def tell(self, text: str) -> None:
        self.last = text
        for listener in self.listeners:
            listener(text)


class Preparation:
    """Makes artifacts ready to run, each one once at a time."""

    def __init__(self, places: Places, preparers: Sequence[Preparer], *, within_s: float = INSTALL_LIMIT_S) -> None:
        """Each artifact is made ready by all `preparers` in their order within `within_s`."""
        self._places = places
        self._preparers = tuple(preparers)
        self._within_s = within_s
        self._under_way: dict[str, _UnderWay] = {}

    async def prepare(self, digest: str, progress: OnProgress) -> Prepared:
        """The artifact, ready to run. Raises `BuildError`, `InvalidInput`, `NotFound` or `Unavailable`.

        Whoever gives up waiting leaves the work to the others who wait for it.
        """
        under_way = self._under_way.get(digest)
        if under_way is None:
            under_way = self._under_way[digest] = _UnderWay()
            under_way.task = asyncio.create_task(self._make(digest, under_way))
            under_way.task.add_done_callback(lambda done: self._finished(digest, done))
        assert under_way.task is not None
        under_way.listeners.append(progress)
        if under_way.last:
            progress(under_way.last)
        try:
            return await asyncio.shield(under_way.task)
        finally:
            under_way.listeners.remove(progress)

    def _finished(self, digest: str, done: asyncio.Task[Prepared]) -> None:
        del self._under_way[digest]
        if not done.cancelled():
            done.exception()  # retrieved, even when nobody waits any more

    async def _make(self, digest: str, under_way: _UnderWay) -> Prepared:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(under_way.tell, text)

        try:
            async with asyncio.timeout(self._within_s):
                prepared = Prepared(digest, self._places.artifact(digest))
                for preparer in self._preparers:
                    prepared = await preparer.prepare(prepared, progress)
                return prepared
        except TimeoutError:
            last = f" It was {under_way.last}." if under_way.last else ""
            raise Unavailable(
                f"It was not installed within {self._within_s / 60:.0f} minutes.{last}",
                hint="Look whether the package index and the disk answer.",
            ) from None


def preparation(
    places: Places, fetch: Fetch, environments: Environments, limits: ArtifactLimits = DEFAULT_LIMITS
) -> Preparation:
    """What a replica of this machine needs: its artifact, and the environment of its lock."""
    workers = Workers("install", AT_ONCE)
    return Preparation(places, [ArtifactPreparer(fetch, workers, limits), EnvironmentPreparer(environments, workers)])


def _unpacked(so_far: Prepared, file: Path, limits: ArtifactLimits) -> Manifest:
    """Unpack a file, unless that was done before. The downloaded file goes with it: it is of no use any more, or was
    not whole."""
    target = so_far.folder
    try:
        manifest = archive.extract(file, target, limits, digest=so_far.digest)
    except ValidationError:
        raise BuildError(
            "The artifact was made by another version of Kaon, and this one cannot read its manifest.",
            hint="Deploy it again.",
        ) from None
    finally:
        if file != target:
            file.unlink(missing_ok=True)
    target.touch()  # used now: pruning goes by it
    return manifest
