"""Files one after the other in one stream of bytes, without marks between them: sizes and digests are known before.

So 10,000 small files are some requests, not 10,000. Each file is written beside its place, verified, and renamed: a
file that is in its place is whole.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaon.errors import InvalidInput

CHUNK_BYTES = 2**20
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file of the stream, and where it is written."""

    target: Path
    digest: str
    size_bytes: int


class FileWriter:
    """Writes the files of a stream. `feed` it all bytes, then `finish`; `close` it in any case. Not thread-safe."""

    def __init__(self, files: Sequence[ExpectedFile], *, mode: int = 0o600) -> None:
        self._files = files
        self._mode = mode
        self._index = 0
        self._left = 0
        self._file: int | None = None
        self._part: Path | None = None
        self._sha256: Any = None
        self._complete_empty()

    @property
    def written(self) -> int:
        """How many files are whole and in their places."""
        return self._index

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises `InvalidInput` for a file of other content, and for bytes behind the last one."""
        view = memoryview(data)
        while view:
            if self._index == len(self._files):
                raise InvalidInput("More bytes were sent than the files have.", hint="Send the files as listed.")
            if self._file is None:
                self._open()
            part = view[: self._left]
            self._write(part)
            self._left -= len(part)
            view = view[len(part) :]
            if not self._left:
                self._complete()
                self._complete_empty()

    def finish(self) -> None:
        """Raises `InvalidInput` when bytes are missing."""
        if self._index < len(self._files):
            raise InvalidInput(
                f"The bytes ended after {self._index} of {len(self._files)} files.", hint="Send them again."
            )

    def close(self) -> None:
        """Remove what is incomplete."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def _open(self) -> None:
        expected = self._files[self._index]
        self._part = expected.target.parent / f".{secrets.token_hex(8)}.part"
        self._file = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, self._mode)
        self._sha256, self._left = hashlib.sha256(), expected.size_bytes

    def _write(self, part: memoryview) -> None:
        assert self._file is not None
        self._sha256.update(part)
        while part:
            part = part[os.write(self._file, part) :]

    def _complete(self) -> None:
        expected = self._files[self._index]
        if f"sha256:{self._sha256.hexdigest()}" != expected.digest:
            raise InvalidInput(
                f"File {self._index + 1} of the stream has other content than its digest says.",
                hint="The file changed while it was sent, or a disk is damaged. Try again.",
            )
        assert self._file is not None
        assert self._part is not None
        os.close(self._file)
        self._file = None
        os.replace(self._part, expected.target)
        self._part = None
        self._index += 1

    def _complete_empty(self) -> None:
        while self._index < len(self._files) and not self._files[self._index].size_bytes:
            self._open()
            self._complete()


def read_files(paths: Sequence[Path], offset: int = 0) -> Iterator[bytes]:
    """The bytes of all files, one after the other, in large chunks; of the first one from `offset` on.

    Raises OSError. Digests are for the reader to check.
    """
    parts: list[bytes] = []
    size = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            if offset:
                file.seek(offset)
                offset = 0
            while chunk := file.read(CHUNK_BYTES):
                parts.append(chunk)
                size += len(chunk)
                if size >= CHUNK_BYTES:
                    yield b"".join(parts) if len(parts) > 1 else parts[0]
                    parts, size = [], 0
    if parts:
        yield b"".join(parts)


def file_system_to_disk(folder: Path) -> None:
    """Write everything of the folder's file system to the disk: one call for thousands of files. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "the file system cannot be written to the disk")
    finally:
        os.close(descriptor)
