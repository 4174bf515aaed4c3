"""Versions of datasets as read-only folders of this machine, each fetched once and shared by all its readers.

    FOLDER/MANIFEST/files/...       the files, mode 0444, in folders of mode 0555
    FOLDER/MANIFEST/manifest.json   the manifest
    FOLDER/MANIFEST/index.json      size, times and inode of each file when it was verified
    FOLDER/.MANIFEST/               one that is being fetched; the next attempt goes on from there

What is guaranteed. Each file was compared with its digest when it was written. Readers run as the user that the agent
runs as, so modes keep them from accidents, not from intent: a process can give itself the right to write. It then
reaches this machine's copy only: the store's bytes are other files. The change shows at the next start of any reader,
since a file's ctime cannot be set: every file that differs from the index is read, and fetched again when it is
damaged. Readers that run meanwhile see the change.

A file that another version here has is copied, by a clone where the file system can.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from kaon.build.archive import remove
from kaon.datasets.receive import FileSource, digest_of_file, make_folders, receive
from kaon.errors import Unavailable
from kaon.file_stream import file_system_to_disk
from kaon.laws.datasets import check_files
from kaon.types.dataset import DatasetFile, DatasetManifest, DatasetVersionRef
from kaon.types.model import content_hash

_FICLONE = 0x40049409
_SOURCES_MAX = 20
"""Other versions in which files are looked for."""
OnStep = Callable[[str], None]
"""Takes what is being done now, in a few words. It may be called from any thread."""
State = tuple[int, int, int, int]
"""Size, mtime, ctime (ns) and inode of a file."""


class VersionSource(Protocol):
    """Where versions come from. It is called from other threads, several at once; every method may raise a
    `KaonError`."""

    def manifest(self, digest: str) -> bytes:
        """The JSON of a manifest."""
        ...

    def files_of(self, digest: str) -> FileSource:
        """The bytes of the files of that manifest."""
        ...


@dataclass
class _Fetching:
    """One version that is being made ready, and all who follow how it goes."""

    task: asyncio.Task[Path] | None = None
    listeners: list[OnStep] = field(default_factory=list)

    def show(self, text: str) -> None:
        for listener in self.listeners:
            listener(text)


class DatasetCache:
    """The versions of one machine. Use it from one event loop."""

    def __init__(self, folder: Path, origin: VersionSource) -> None:
        self._folder = folder
        self._origin = origin
        self._fetching: dict[str, _Fetching] = {}

    async def materialize(self, ref: DatasetVersionRef, progress: OnStep = lambda _: None) -> Path:
        """The read-only folder of a version's files, verified. Raises a `KaonError`, OSError.

        Calls for the same version share the work. One that is cancelled leaves it to the others.
        """
        fetching = self._fetching.get(ref.manifest)
        if fetching is None:
            fetching = self._fetching[ref.manifest] = _Fetching()
            fetching.task = asyncio.create_task(self._make(ref, fetching))
            fetching.task.add_done_callback(partial(self._finished, ref.manifest))
        assert fetching.task is not None
        fetching.listeners.append(progress)
        try:
            return await asyncio.shield(fetching.task)
        finally:
            fetching.listeners.remove(progress)

    def _finished(self, manifest: str, done: asyncio.Task[Path]) -> None:
        del self._fetching[manifest]
        if not done.cancelled():
            done.exception()  # retrieved, even when nobody waits any more

    async def _make(self, ref: DatasetVersionRef, fetching: _Fetching) -> Path:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(fetching.show, text)

        return await asyncio.to_thread(self._ensure, ref, progress)

    async def prune(self, used: set[str], keep: int) -> None:
        """Remove versions that are neither in `used` (digests of manifests) nor among the last `keep` that were."""
        await asyncio.to_thread(self._prune, used | self._fetching.keys(), keep)

    def _prune(self, used: set[str], keep: int) -> None:
        names = {digest.removeprefix("sha256:") for digest in used}
        unused = [home for home in self._homes() if home.name not in names]
        unused.sort(key=lambda home: home.stat().st_mtime, reverse=True)
        for home in unused[keep:]:
            remove(home)

    def _homes(self) -> list[Path]:
        """The versions that are complete."""
        if not self._folder.is_dir():
            return []
        return [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]

    # In a thread

    def _ensure(self, ref: DatasetVersionRef, progress: OnStep) -> Path:
        home = self._folder / ref.manifest.removeprefix("sha256:")
        if home.is_dir():
            self._repair(ref, home, progress)
        else:
            beside = home.with_name(f".{home.name}")
            self._fetch(ref, beside, progress)
            os.rename(beside, home)
        os.utime(home)  # used now: pruning goes by it
        return home / "files"

    def _fetch(self, ref: DatasetVersionRef, home: Path, progress: OnStep) -> None:
        manifest = self._manifest(ref, home)
        files = home / "files"
        _make_writable(files)
        files.mkdir(parents=True, exist_ok=True)
        missing = [i for i, file in enumerate(manifest.files) if _size(files / file.path) != file.size_bytes]
        missing += _damaged(files, manifest, set(range(len(manifest.files))) - set(missing))
        self._receive(ref, manifest, sorted(missing), files, progress)
        _seal(home, files, manifest)

    def _repair(self, ref: DatasetVersionRef, home: Path, progress: OnStep) -> None:
        """Read what differs from the index, and fetch what is damaged."""
        manifest, files = self._manifest(ref, home), home / "files"
        index = _read_index(home)
        states = [_state(files / file.path) for file in manifest.files]
        suspect = {n for n, state in enumerate(states) if state is None or index[n : n + 1] != [state]}
        unexpected = _unexpected(files, manifest)
        if not suspect and not unexpected:
            return
        progress(f"verifying {ref.text}")
        damaged = _damaged(files, manifest, suspect)
        _make_writable(files)
        for path in unexpected:
            remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self._receive(ref, manifest, sorted(damaged), files, progress)
        _seal(home, files, manifest)

    def _manifest(self, ref: DatasetVersionRef, home: Path) -> DatasetManifest:
        file = home / "manifest.json"
        data = file.read_bytes() if file.is_file() else b""
        if not data or not _is_manifest(data, ref.manifest):
            data = self._origin.manifest(ref.manifest)
            if not _is_manifest(data, ref.manifest):
                raise Unavailable(f"The manifest of {ref.text} is not as its digest says.", hint="Try again.")
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = home / ".manifest.json"
            beside.write_bytes(data)
            beside.replace(file)
        manifest = DatasetManifest.model_validate_json(data)
        check_files(manifest.files)
        return manifest

    def _receive(
        self, ref: DatasetVersionRef, manifest: DatasetManifest, missing: list[int], files: Path, progress: OnStep
    ) -> None:
        if not missing:
            return
        total = sum(manifest.files[index].size_bytes for index in missing)
        progress(f"fetching {ref.text}, {total / 1e6:,.0f} MB")
        make_folders(files, (manifest.files[index] for index in missing))
        known = self._known() if len(missing) < len(manifest.files) or self._homes() else {}
        left = [index for index in missing if not _copied(manifest.files[index], files, known)]
        done = 0

        def add(count: int) -> None:
            nonlocal done
            before, done = done, done + count
            if before // _SHOW_BYTES != done // _SHOW_BYTES:
                progress(f"fetching {ref.text}, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

        receive(self._origin.files_of(ref.manifest), manifest, left, files, add)

    def _known(self) -> dict[str, Path]:
        """Digest -> a file of it in another version here."""
        found: dict[str, Path] = {}
        homes = sorted(self._homes(), key=lambda home: home.stat().st_mtime, reverse=True)
        for home in homes[:_SOURCES_MAX]:
            with suppress(OSError, ValueError):
                manifest = DatasetManifest.model_validate_json((home / "manifest.json").read_bytes())
                for file in manifest.files:
                    found.setdefault(file.digest, home / "files" / file.path)
        return found


_SHOW_BYTES = 64 * 2**20


def _is_manifest(data: bytes, digest: str) -> bool:
    try:
        return f"sha256:{content_hash(DatasetManifest.model_validate_json(data))}" == digest
    except ValueError:
        return False


def _copied(file: DatasetFile, files: Path, known: dict[str, Path]) -> bool:
    """Copy a file of another version; whether that gave the right bytes."""
    source, target = known.get(file.digest), files / file.path
    if source is None:
        return False
    part = target.parent / f".{os.urandom(8).hex()}.part"
    try:
        _clone(source, part)
        if digest_of_file(part) != file.digest:
            return False
        part.replace(target)
    except OSError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _clone(source: Path, target: Path) -> None:
    """A copy that shares its blocks until one is written to, where the file system can."""
    with source.open("rb") as reading, target.open("xb") as writing:
        try:
            fcntl.ioctl(writing, _FICLONE, reading.fileno())
        except OSError:
            shutil.copyfileobj(reading, writing, 2**20)


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _state(path: Path) -> State | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _damaged(files: Path, manifest: DatasetManifest, suspect: set[int]) -> list[int]:
    return [n for n in sorted(suspect) if digest_of_file(files / manifest.files[n].path) != manifest.files[n].digest]


def _unexpected(files: Path, manifest: DatasetManifest) -> list[Path]:
    """What is in the folder and not in the manifest."""
    paths = {file.path for file in manifest.files}
    folders = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 1)}

    def below(folder: Path, prefix: str) -> Iterator[Path]:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if path in folders and entry.is_dir(follow_symlinks=False):
                    yield from below(folder / entry.name, f"{path}/")
                elif path not in paths:
                    yield folder / entry.name

    return list(below(files, "")) if files.is_dir() else []


def _make_writable(files: Path) -> None:
    """Let the folders be changed: the files themselves are only replaced."""
    if files.is_dir():
        files.chmod(0o700)
        for folder, names, _ in os.walk(files):
            for name in names:
                if not (Path(folder) / name).is_symlink():
                    (Path(folder) / name).chmod(0o700)


def _seal(home: Path, files: Path, manifest: DatasetManifest) -> None:
    """Make everything read-only, write it to the disk, and record how it is."""
    for path in _unexpected(files, manifest):  # what a cut download left
        path.unlink()
    for file in manifest.files:
        (files / file.path).chmod(0o444)
    for folder, _, _ in os.walk(files, topdown=False):
        Path(folder).chmod(0o555)
    file_system_to_disk(home)
    states = [_state(files / file.path) for file in manifest.files]
    beside = home / ".index.json"
    beside.write_text(json.dumps(states))
    beside.replace(home / "index.json")


def _read_index(home: Path) -> list[State]:
    try:
        return [tuple(state) for state in json.loads((home / "index.json").read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
