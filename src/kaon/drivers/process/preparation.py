"""Prepares artifacts to run, by one preparer after the other. Replicas of one artifact share the work."""

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
"""Called with the current step, in a few words, from any thread."""


@dataclass(frozen=True)
class Prepared:
    """What a start needs, as far as it is prepared."""

    digest: str
    folder: Path
    manifest: Manifest | None = None
    python: Path = Path(sys.executable)

    @property
    def code_dir(self) -> Path:
        """The first folder of sys.path."""
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
        unpacked = so_far.folder.exists()
        if not unpacked:
            progress("fetching the artifact")
        file = so_far.folder if unpacked else await self._fetch(so_far.digest)
        if not unpacked:
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
class _InPreparation:
    """One artifact in preparation, and the listeners for its progress."""

    task: asyncio.Task[Prepared] | None = None
    listeners: list[OnProgress] = field(default_factory=list)
    last: str = ""

    def report(self, text: str) -> None:
        self.last = text
        for listener in self.listeners:
            listener(text)


class Preparation:
    """Prepares artifacts to run, each one once at a time."""

    def __init__(self, places: Places, preparers: Sequence[Preparer], *, within_s: float = INSTALL_LIMIT_S) -> None:
        """Each artifact is prepared by all `preparers` in their order within `within_s`."""
        self._places = places
        self._preparers = tuple(preparers)
        self._within_s = within_s
        self._in_preparation: dict[str, _InPreparation] = {}

    async def prepare(self, digest: str, progress: OnProgress) -> Prepared:
        """The artifact, prepared to run. Raises `BuildError`, `InvalidInput`, `NotFound` or `Unavailable`.

        When a waiting caller is cancelled, the work goes on.
        """
        current = self._in_preparation.get(digest)
        if current is None:
            current = self._in_preparation[digest] = _InPreparation()
            current.task = asyncio.create_task(self._make(digest, current))
            current.task.add_done_callback(lambda done: self._finished(digest, done))
        assert current.task is not None
        current.listeners.append(progress)
        if current.last:
            progress(current.last)
        try:
            return await asyncio.shield(current.task)
        finally:
            current.listeners.remove(progress)

    def _finished(self, digest: str, done: asyncio.Task[Prepared]) -> None:
        del self._in_preparation[digest]
        if not done.cancelled():
            done.exception()  # retrieved, even when no caller waits any more

    async def _make(self, digest: str, current: _InPreparation) -> Prepared:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(current.report, text)

        try:
            async with asyncio.timeout(self._within_s):
                prepared = Prepared(digest, self._places.artifact(digest))
                for preparer in self._preparers:
                    prepared = await preparer.prepare(prepared, progress)
                return prepared
        except TimeoutError:
            last = f" It was {current.last}." if current.last else ""
            raise Unavailable(
                f"It was not installed within {self._within_s / 60:.0f} minutes.{last}",
                hint="Check whether the package index and the disk respond.",
            ) from None


def preparation(
    places: Places, fetch: Fetch, environments: Environments, limits: ArtifactLimits = DEFAULT_LIMITS
) -> Preparation:
    """The preparation of replicas on this machine: the artifact, then the environment of its lock."""
    workers = Workers("install", AT_ONCE)
    return Preparation(places, [ArtifactPreparer(fetch, workers, limits), EnvironmentPreparer(environments, workers)])


def _unpacked(so_far: Prepared, file: Path, limits: ArtifactLimits) -> Manifest:
    """Unpack a file, unless that was done before, and delete it: it is no longer needed, or is damaged."""
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
    target.touch()  # used now, for pruning
    return manifest
