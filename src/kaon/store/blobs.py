"""Bytes by their sha256, in a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kaon.errors import NotFound, TooLarge, Unavailable
from kaon.file_stream import CHUNK_BYTES as STREAM_CHUNK_BYTES
from kaon.file_stream import ExpectedFile, FileWriter, file_system_to_disk, read_files
from kaon.laws.retention import Blob

CHUNK_BYTES = 2**18
_FEW = 1000
"""From so many digests on the folder is listed once, instead of a look at each file."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SPACES = "spaces"
"""The folder of spaces, below that of the blobs."""
_SPACE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PART = re.compile(r"\.[0-9a-f]{16}\.part")
"""An upload in progress, or what a crash left of it."""


class FileBlobs:
    """`Blobs` as files that are named by nothing but their digest, mode 0600, in a folder of mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spaces: dict[str, FileBlobs] = {}
        self.deciding = asyncio.Lock()

    def within(self, space: str) -> FileBlobs:
        """See `Blobs.within`."""
        if not _SPACE.fullmatch(space):
            raise ValueError(f"not the name of a space: {space[:80]!r}")
        return self._spaces.setdefault(space, FileBlobs(self._folder / _SPACES / space))

    async def spaces(self) -> list[str]:
        """See `Blobs.spaces`."""
        try:
            names = await asyncio.to_thread(os.listdir, self._folder / _SPACES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from None
        return sorted(name for name in names if _SPACE.fullmatch(name))

    async def put(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> tuple[str, int]:
        """See `Blobs.put`. The bytes are on the disk when it returns."""
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            return await self._put(chunks, limit_bytes, part)
        except ConnectionError:  # of the sender of the chunks
            raise
        except OSError as error:
            raise self._unavailable(error) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    async def _put(self, chunks: AsyncIterator[bytes], limit_bytes: int, part: Path) -> tuple[str, int]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sha256, size = hashlib.sha256(), 0
        with _create(part) as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise TooLarge(f"More than {limit_bytes} bytes were sent.", hint="Leave out what is not needed.")
                sha256.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_to_disk, file)
        os.replace(part, self._folder / sha256.hexdigest())
        await asyncio.to_thread(_folder_to_disk, self._folder)
        return f"sha256:{sha256.hexdigest()}", size

    async def adopt(self, file: Path, digest: str) -> None:
        """See `Blobs.adopt`. Without a copy when the file is in the same file system."""
        try:
            await asyncio.to_thread(self._adopt, file, self._path(digest))
        except OSError as error:
            raise self._unavailable(error) from None

    def _adopt(self, file: Path, path: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            try:
                os.link(file, part)
            except OSError:  # another file system, or one without links
                with file.open("rb") as source, _create(part) as copy:
                    shutil.copyfileobj(source, copy, CHUNK_BYTES)
                    _to_disk(copy)
            os.utime(part)  # its retention time begins now
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)  # it stays when both were links to the same file
        _folder_to_disk(self._folder)

    async def has(self, digest: str) -> bool:
        """See `Blobs.has`."""
        if not _DIGEST.fullmatch(digest):
            return False
        try:
            await asyncio.to_thread(self._path(digest).stat)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unavailable(error) from None

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """See `Blobs.read`."""
        sha256 = hashlib.sha256()
        try:
            with self._open(digest) as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    sha256.update(chunk)
                    yield chunk
        except OSError as error:
            raise self._unavailable(error) from None
        if f"sha256:{sha256.hexdigest()}" != digest:
            raise Unavailable(f"The bytes of {digest} are damaged on the disk.", hint="Build and deploy it again.")

    async def put_files(self, files: Sequence[tuple[str, int]], chunks: AsyncIterator[bytes]) -> None:
        """See `Blobs.put_files`. The bytes are on the disk when it returns."""
        writer: FileWriter | None = None
        try:
            await asyncio.to_thread(self._folder.mkdir, 0o700, parents=True, exist_ok=True)
            expected = [ExpectedFile(self._path(digest), digest, size) for digest, size in files]
            writer = await asyncio.to_thread(FileWriter, expected)
            async for chunk in _large(chunks):
                await asyncio.to_thread(writer.feed, chunk)
            writer.finish()
        except ConnectionError:  # of the sender of the chunks
            raise
        except OSError as error:
            raise self._unavailable(error) from None
        finally:
            if writer is not None:
                with suppress(OSError):
                    writer.close()
                if writer.written:
                    await asyncio.to_thread(file_system_to_disk, self._folder)

    async def read_files(self, digests: Sequence[str], offset: int = 0) -> AsyncIterator[bytes]:
        """See `Blobs.read_files`."""
        if wrong := next((digest for digest in digests if not _DIGEST.fullmatch(digest)), None):
            raise _not_there(wrong)
        reading = read_files([self._path(digest) for digest in digests], offset)
        try:
            while chunk := await asyncio.to_thread(next, reading, b""):
                yield chunk
        except FileNotFoundError as error:
            raise _not_there(f"sha256:{Path(error.filename).name}") from None
        except OSError as error:
            raise self._unavailable(error) from None

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """See `Blobs.missing`."""
        try:
            return await asyncio.to_thread(self._missing, digests)
        except OSError as error:
            raise self._unavailable(error) from None

    def _missing(self, digests: Sequence[str]) -> list[str]:
        if len(digests) < _FEW:
            return [digest for digest in digests if not (_DIGEST.fullmatch(digest) and self._exists(digest))]
        try:
            existing = set(os.listdir(self._folder))
        except FileNotFoundError:
            existing = set()
        return [digest for digest in digests if digest.removeprefix("sha256:") not in existing]

    def _exists(self, digest: str) -> bool:
        try:
            self._path(digest).stat()
        except FileNotFoundError:
            return False
        return True

    def _open(self, digest: str) -> BinaryIO:
        try:
            if _DIGEST.fullmatch(digest):
                return self._path(digest).open("rb")
        except FileNotFoundError:
            pass
        raise _not_there(digest)

    async def delete(self, digest: str) -> None:
        """See `Blobs.delete`."""
        if not (_DIGEST.fullmatch(digest) or _PART.fullmatch(digest)):
            return
        try:
            await asyncio.to_thread(self._path(digest).unlink, missing_ok=True)
        except OSError as error:
            raise self._unavailable(error) from None

    async def list_all(self) -> list[Blob]:
        """See `Blobs.list_all`."""
        try:
            return await asyncio.to_thread(self._list_all)
        except FileNotFoundError:  # nothing was ever put here
            return []
        except OSError as error:
            raise self._unavailable(error) from None

    def _list_all(self) -> list[Blob]:
        found = []
        for path in self._folder.iterdir():
            if path.name == _SPACES:
                continue
            with suppress(FileNotFoundError):  # deleted in between
                state = path.stat()
                name = f"sha256:{path.name}" if _DIGEST.fullmatch(f"sha256:{path.name}") else path.name
                found.append(Blob(name, state.st_size, state.st_mtime))
        return found

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _unavailable(self, error: OSError) -> Unavailable:
        hint = f"Check the folder {self._folder}: its permissions, and the free space of its disk."
        return Unavailable(
            f"The bytes of artifacts cannot be accessed: {error.strerror}.", hint=hint, retry_after_s=1.0
        )


def _not_there(digest: str) -> NotFound:
    return NotFound(f"There are no bytes with the digest {digest[:80]!r} here.")


async def _large(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in chunks that are worth a change of threads."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= STREAM_CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _create(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb")


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
