"""A folder of the user's as a version: its files are listed, checked and hashed; links and odd names are refused."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kaon.errors import InvalidInput
from kaon.laws.datasets import manifest_of, problem_of_path
from kaon.types.dataset import FILES_MAX, DatasetFile, DatasetManifest

_CHUNK_BYTES = 2**20
_AT_ONCE = 500
"""Files of one task of a thread: a task for each small file would cost more than its hash."""
_AT_ONCE_BYTES = 8 * 2**20
THREADS = min(8, os.cpu_count() or 1)

OnBytes = Callable[[int], None]
"""Takes numbers of bytes that were worked on. It may be called from any thread."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the folder, not yet read."""

    path: str
    """Relative, with slashes."""
    size_bytes: int


def find_files(folder: Path) -> list[FoundFile]:
    """The regular files below a folder, hidden ones too. Raises `InvalidInput` for anything else, OSError."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder.", hint="Name the folder whose files are the version.")
    found = list(_below(folder, ""))
    if not found:
        raise InvalidInput(f"{folder} has no files.", hint="A version has at least one file.")
    if len(found) > FILES_MAX:
        raise InvalidInput(f"{folder} has more than {FILES_MAX:,} files.", hint="Pack small files into larger ones.")
    return sorted(found, key=lambda file: file.path)


def _below(folder: Path, prefix: str) -> Iterator[FoundFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if problem := problem_of_path(path):
                raise InvalidInput(f"The path {path[:200]!a} {problem}.", hint="Rename it, or leave it out.")
            if entry.is_symlink():
                raise InvalidInput(f"{path} is a link.", hint="Put the file itself there, or leave it out.")
            if entry.is_dir():
                yield from _below(folder / entry.name, f"{path}/")
            elif entry.is_file():
                yield FoundFile(path, entry.stat().st_size)
            else:
                raise InvalidInput(f"{path} is no regular file.", hint="Leave sockets, pipes and devices out.")


def hashed(folder: Path, files: list[FoundFile], on_bytes: OnBytes = lambda _: None) -> DatasetManifest:
    """The manifest of files, hashed by several threads. Raises `InvalidInput` for one that changed, OSError."""

    def of(group: list[FoundFile]) -> list[DatasetFile]:
        return [_hashed(folder, file, on_bytes) for file in group]

    with ThreadPoolExecutor(THREADS) as pool:
        return manifest_of(file for group in pool.map(of, _groups(files)) for file in group)


def _groups(files: list[FoundFile]) -> Iterator[list[FoundFile]]:
    group: list[FoundFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.size_bytes
        if len(group) == _AT_ONCE or size > _AT_ONCE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _hashed(folder: Path, file: FoundFile, on_bytes: OnBytes) -> DatasetFile:
    sha256, size = hashlib.sha256(), 0
    descriptor = open_plain(folder / file.path)
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
    finally:
        os.close(descriptor)
    return DatasetFile.model_construct(path=file.path, size_bytes=size, digest=f"sha256:{sha256.hexdigest()}")


def open_plain(path: Path) -> int:
    """A descriptor of a regular file, for reading. Raises `InvalidInput` for anything else, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise InvalidInput(f"{path} is a link.", hint="Put the file itself there, or leave it out.") from None
        raise error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput(f"{path} is no regular file.", hint="Leave sockets, pipes and devices out.")
    return descriptor


def content_of(folder: Path, files: list[DatasetFile]) -> Iterator[bytes]:
    """The bytes of files, one after the other, in large chunks. Raises `InvalidInput` when one has another size now."""
    parts: list[bytes] = []
    size = 0
    for file in files:
        left = file.size_bytes
        descriptor = open_plain(folder / file.path)
        try:
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                left -= len(chunk)
                parts.append(chunk)
                size += len(chunk)
                if size >= _CHUNK_BYTES:
                    yield b"".join(parts)
                    parts, size = [], 0
        finally:
            os.close(descriptor)
        if left:
            raise InvalidInput(f"{file.path} changed while it was sent.", hint="Push again when nothing writes to it.")
    if parts:
        yield b"".join(parts)
