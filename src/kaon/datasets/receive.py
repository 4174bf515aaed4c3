"""A version's files are fetched into a folder: several requests at once, each file verified, resumed where it was cut.

A file that is in its place is whole. Nothing is written outside the folder: paths are checked, and no folder on the way
to a file may be a link.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from kaon.datasets.batches import FileBatch, batches
from kaon.datasets.folder import OnBytes
from kaon.datasets.push import in_threads
from kaon.errors import DeadlineExceeded, InvalidInput, Unavailable
from kaon.file_stream import CHUNK_BYTES, ExpectedFile, FileWriter
from kaon.laws.datasets import check_files
from kaon.types.dataset import DatasetFile, DatasetManifest

_ROUNDS = 6
_RETRY_S = 0.5


class FileSource(Protocol):
    """Where the bytes of a version come from. It is called from several threads."""

    def files(self, first: int, count: int, offset: int = 0) -> Iterator[bytes]:
        """The bytes of files that follow one another; of the first one from `offset` on. Raises a `KaonError`."""
        ...


def receive(
    source: FileSource,
    manifest: DatasetManifest,
    indexes: Sequence[int],
    folder: Path,
    on_bytes: OnBytes = lambda _: None,
) -> None:
    """Fetch the files at `indexes`, rising, into `folder`. Raises a `KaonError`, OSError."""
    check_files(manifest.files)
    make_folders(folder, (manifest.files[index] for index in indexes))

    def fetch(batch: FileBatch) -> None:
        if batch.is_large:
            _receive_large(source, batch.first, batch.files[0], folder, on_bytes)
        else:
            _receive_batch(source, batch, folder, on_bytes)

    in_threads(fetch, list(batches(manifest, indexes)))


def make_folders(folder: Path, files: Iterable[DatasetFile]) -> None:
    """Make the folders of files. Raises `InvalidInput` when one of them is a link or a file."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {""}
    for file in files:
        parent = file.path.rpartition("/")[0]
        if parent not in done:
            for part in _and_above(parent):
                if part not in done:
                    _make_folder(folder / part)
                    done.add(part)


def _and_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _make_folder(path: Path) -> None:
    try:
        path.mkdir()
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise InvalidInput(
                f"{path} is no folder, but a file or a link.", hint="Choose another folder, or remove it."
            ) from None


def _receive_batch(source: FileSource, batch: FileBatch, folder: Path, on_bytes: OnBytes) -> None:
    writer = FileWriter([ExpectedFile(folder / f.path, f.digest, f.size_bytes) for f in batch.files], mode=0o644)
    try:
        for chunk in source.files(batch.first, len(batch.files)):
            _fed(writer, chunk)
            on_bytes(len(chunk))
        try:
            writer.finish()
        except InvalidInput as error:
            raise Unavailable(error.cause, hint="Try again; what has arrived is kept.") from None
    finally:
        writer.close()


def _fed(writer: FileWriter, chunk: bytes) -> None:
    try:
        writer.feed(chunk)
    except InvalidInput:
        raise Unavailable(
            "A file that arrived is not as its digest says.", hint="Check the stored files: kaon dataset verify NAME@N"
        ) from None


def _receive_large(source: FileSource, index: int, file: DatasetFile, folder: Path, on_bytes: OnBytes) -> None:
    target = folder / file.path
    part = target.parent / f".{file.digest.removeprefix('sha256:')[:16]}.part"
    sha256 = hashlib.sha256()
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(descriptor, "r+b", buffering=0) as opened:
        while chunk := opened.read(CHUNK_BYTES):  # of an earlier attempt
            sha256.update(chunk)
            on_bytes(len(chunk))
        offset = opened.tell()
        if offset > file.size_bytes:
            os.truncate(part, 0)
            raise Unavailable("What an earlier attempt left was of no use.", hint="Try again.")
        if offset < file.size_bytes:
            for chunk in source.files(index, 1, offset):
                sha256.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[opened.write(view) :]
                on_bytes(len(chunk))
        size = opened.tell()
    if size < file.size_bytes:
        raise Unavailable("The bytes ended before the file.", hint="Try again; what has arrived is kept.")
    if f"sha256:{sha256.hexdigest()}" != file.digest:
        part.unlink()
        raise Unavailable(
            "A file that arrived is not as its digest says.", hint="Check the stored files: kaon dataset verify NAME@N"
        )
    os.replace(part, target)


def digest_of_file(path: Path, on_bytes: OnBytes = lambda _: None) -> str:
    """The digest of a regular file's content; '' when there is none. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    sha256 = hashlib.sha256()
    with open(descriptor, "rb", buffering=0) as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        while chunk := opened.read(CHUNK_BYTES):
            sha256.update(chunk)
            on_bytes(len(chunk))
    return f"sha256:{sha256.hexdigest()}"


def pull(
    source: FileSource,
    manifest: DatasetManifest,
    folder: Path,
    *,
    overwrite: bool = False,
    on_bytes: OnBytes = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Make `folder` have all files of a version; how many were fetched.

    Files that are there already are compared. Raises `InvalidInput` for one of other content, unless `overwrite`.
    """
    check_files(manifest.files)
    make_folders(folder, manifest.files)
    missing = []
    for index, file in enumerate(manifest.files):
        path = folder / file.path
        try:
            state = path.lstat()
        except FileNotFoundError:
            missing.append(index)
            continue
        if stat.S_ISREG(state.st_mode) and state.st_size == file.size_bytes:
            if digest_of_file(path, on_bytes) == file.digest:
                continue
            on_bytes(-file.size_bytes)
        if not overwrite or stat.S_ISDIR(state.st_mode):
            raise InvalidInput(
                f"{path} exists, and is another file than that of the version.",
                hint="Choose an empty folder, or add --overwrite.",
            )
        missing.append(index)
    left = missing
    for attempt in range(_ROUNDS):
        try:
            receive(source, manifest, left, folder, on_bytes)
            break
        except (Unavailable, DeadlineExceeded):
            if attempt == _ROUNDS - 1:
                raise
            sleep(_RETRY_S * 2**attempt)
        left = [i for i in left if digest_of_file(folder / manifest.files[i].path) != manifest.files[i].digest]
    return len(missing)
