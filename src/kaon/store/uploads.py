"""Uploads that nothing uses yet: files by their sha256, which can be continued after an interruption.

Each owner has a folder of its own. A file in it is `HEX.part` until all its bytes have arrived and
`HEX` when their sha256 was found to be HEX. So a continued upload never mixes two files: bytes of another file are
found at the end, and deleted. An owner never sees an upload of another one, since who knows a digest only must not get
the bytes.

One request at a time appends to an upload. A later one takes over, as the earlier one may hang on a connection that was
cut without the server's notice; the earlier one gets a `Conflict` with its next bytes.

The folder has one user: an `Uploads` object keeps the list of its files in memory, with sizes and times.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kaon.clock import Clock
from kaon.errors import Conflict, DiskFull, InvalidInput, NotFound, Unavailable

WRITE_BYTES = 2**20
"""Bytes are written and hashed in pieces of this size, in a thread."""
KEPT_FREE_BYTES = 256 * 2**20
"""Free space that uploads leave on the disk, for the store."""
IDLE_S = 3600.0
"""An upload that got no bytes for so long is deleted when its owner needs the room for another one."""
_OWNER = re.compile(r"[0-9a-z][0-9a-z-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_FILE = re.compile(r"([0-9a-f]{64})(\.part)?")
_T = TypeVar("_T")


class UploadsFull(Conflict):
    """The owner has as many unused uploads as it may have."""

    code = "quota-reached"


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How many unused uploads an owner may have, and for how long."""

    count: int
    size_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class UploadState:
    """How far an upload is."""

    received_bytes: int = 0
    is_complete: bool = False


@dataclass(slots=True)
class _Appender:
    """A request that appends to an upload."""

    size_bytes: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while bytes are written."""
    is_superseded: bool = False


@dataclass(slots=True)
class _Entry:
    """A file of the folder."""

    received_bytes: int
    at: float
    """When it got its last bytes, epoch seconds."""
    is_complete: bool = False
    sha256: Any = None
    """Of the received bytes; None: they must be read again."""
    appender: _Appender | None = None
    users: int = 0
    is_used: bool = False
    """Something was made of it: it is deleted with its last user."""

    @property
    def size_bytes(self) -> int:
        """What it has on the disk, or will have when the current request ends well."""
        return max(self.received_bytes, self.appender.size_bytes if self.appender else 0)

    @property
    def is_idle(self) -> bool:
        return self.appender is None and not self.users


class Uploads:
    """The uploads in one folder. Every method raises `Unavailable` when the folder cannot be accessed."""

    def __init__(self, folder: Path, bounds: UploadBounds, clock: Clock) -> None:
        self._folder, self._bounds, self._clock = folder, bounds, clock
        self._entries: dict[str, dict[str, _Entry]] | None = None
        self._admission = asyncio.Lock()

    async def state(self, owner: str, digest: str) -> UploadState:
        """How far an upload is; nothing received when there is none."""
        entry = (await self._owned(owner)).get(_hex(digest))
        return UploadState(entry.received_bytes, entry.is_complete) if entry else UploadState()

    async def append(
        self, owner: str, digest: str, chunks: AsyncIterator[bytes], *, offset: int, size_bytes: int
    ) -> UploadState:
        """Append to the upload of a file of `size_bytes`, from `offset`: as much as has arrived, or 0 to begin anew.

        What arrived stays when `chunks` ends early or raises. Raises `Conflict` for another offset and when a later
        request took over, `UploadsFull`, `DiskFull`, and `InvalidInput` when there are more bytes than `size_bytes` or
        their sha256 is not `digest`: then the upload is deleted.
        """
        name = _hex(digest)
        if not 0 <= offset <= size_bytes:
            raise InvalidInput(f"The offset {offset} is not within the file's {size_bytes} bytes.")
        admitted = await self._admit(owner, name, offset, size_bytes)
        if admitted is None:
            async for _ in chunks:  # a response before the end of the request would look like a cut connection
                pass
            return UploadState(size_bytes, is_complete=True)
        entry, appender = admitted
        try:
            with await self._in_thread(_opened, self._path(owner, f"{name}.part"), entry, offset) as file:
                await self._receive(file, entry, appender, chunks)
                return await self._finish(file, entry, appender, self._path(owner, name))
        except InvalidInput:
            if not appender.is_superseded:
                await self._delete(owner, name)
            raise
        finally:
            if entry.appender is appender:
                entry.appender = None

    @asynccontextmanager
    async def use(self, owner: str, digest: str) -> AsyncIterator[Path]:
        """The file of a complete upload, to make something of it; deleted when the block ends without an exception.

        Raises `NotFound` unless all bytes of it have arrived.
        """
        name = _hex(digest)
        entries = await self._owned(owner)
        entry = entries.get(name)
        if entry is None or not entry.is_complete:
            raise NotFound(f"There is no complete upload of {digest[:80]!r}.", hint="Upload its bytes first.")
        entry.users += 1
        try:
            yield self._path(owner, name)
            entry.is_used = True
        finally:
            entry.users -= 1
            if entry.is_used and not entry.users:
                await self._delete(owner, name)

    async def expired(self) -> list[int]:
        """The sizes of the uploads that `collect` would delete."""
        return [entry.received_bytes for _, _, entry in await self._expired()]

    async def collect(self) -> list[int]:
        """Delete the uploads that got no bytes for too long; returns their sizes."""
        gone = []
        async with self._admission:
            for owner, name, entry in await self._expired():
                if entry.is_idle:
                    await self._delete(owner, name)
                    gone.append(entry.received_bytes)
        return gone

    async def _expired(self) -> list[tuple[str, str, _Entry]]:
        entries, oldest = await self._all(), self._clock.now() - self._bounds.age_s
        return [
            (owner, name, entry)
            for owner, owned in entries.items()
            for name, entry in owned.items()
            if entry.is_idle and entry.at <= oldest
        ]

    async def _admit(self, owner: str, name: str, offset: int, size_bytes: int) -> tuple[_Entry, _Appender] | None:
        """Register a request that appends, in place of an earlier one, when there is room for all its bytes.

        None when the upload is complete.
        """
        async with self._admission:
            owned = await self._owned(owner)
            entry = owned.get(name) or _Entry(0, self._clock.now())
            if entry.is_complete:
                entry.at = self._clock.now()
                return None
            if offset not in (0, entry.received_bytes):
                raise _other_offset(entry)
            await self._make_room(owner, owned, name, size_bytes)
            await self._check_disk(size_bytes - offset)
            if earlier := entry.appender:
                async with earlier.lock:
                    if entry.is_complete:
                        return None
                    earlier.is_superseded = True
            if offset not in (0, entry.received_bytes):  # the earlier request got more meanwhile
                entry.appender = None
                raise _other_offset(entry)
            if offset != entry.received_bytes:
                entry.received_bytes, entry.sha256 = 0, None
            entry.appender = _Appender(size_bytes)
            owned[name] = entry
            return entry, entry.appender

    async def _make_room(self, owner: str, owned: dict[str, _Entry], name: str, size_bytes: int) -> None:
        """Delete idle uploads, the oldest first, when another one needs their room. Raises `UploadsFull`."""
        others = {key: entry for key, entry in owned.items() if key != name}
        count, total = len(others) + 1, sum(entry.size_bytes for entry in others.values()) + size_bytes
        oldest = self._clock.now() - IDLE_S
        idle = sorted((entry.at, key) for key, entry in others.items() if entry.is_idle and entry.at <= oldest)
        for _, key in idle:
            if count <= self._bounds.count and total <= self._bounds.size_bytes:
                return
            if others[key].is_idle:
                count, total = count - 1, total - others[key].size_bytes
                await self._delete(owner, key)
        if count > self._bounds.count or total > self._bounds.size_bytes:
            raise UploadsFull(
                f"The workspace may have {self._bounds.count} unused uploads with {self._bounds.size_bytes} bytes "
                "together; this one would be too much.",
                hint="Use the others first, or raise KAON_MOST_UPLOADS and KAON_MOST_UPLOAD_BYTES.",
            )

    async def _check_disk(self, more_bytes: int) -> None:
        free = (await self._in_thread(shutil.disk_usage, self._folder)).free
        if more_bytes + KEPT_FREE_BYTES > free:
            raise DiskFull(
                f"The upload needs {more_bytes} bytes, and the server's disk has {free} free.",
                hint=f"Make room on the disk of {self._folder}: kaon gc shows what may be deleted.",
            )

    async def _receive(self, file: io.FileIO, entry: _Entry, appender: _Appender, chunks: AsyncIterator[bytes]) -> None:
        pending = bytearray()
        try:
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= WRITE_BYTES:
                    data, pending = bytes(pending), bytearray()
                    await self._write(file, entry, appender, data)
        finally:  # also of a request that was cut
            if pending and not appender.is_superseded:
                await self._write(file, entry, appender, bytes(pending))

    async def _write(self, file: io.FileIO, entry: _Entry, appender: _Appender, data: bytes) -> None:
        async with appender.lock:
            _check_in_charge(appender)
            if entry.received_bytes + len(data) > appender.size_bytes:
                raise InvalidInput(f"There are more than the declared {appender.size_bytes} bytes.")
            await self._in_thread(_append, file, entry, data)
            entry.at = self._clock.now()

    async def _finish(self, file: io.FileIO, entry: _Entry, appender: _Appender, path: Path) -> UploadState:
        """Check the digest and give the file its final name, when it has all its bytes."""
        async with appender.lock:
            _check_in_charge(appender)
            if entry.received_bytes < appender.size_bytes:
                return UploadState(entry.received_bytes)
            if entry.sha256.hexdigest() != path.name:
                raise InvalidInput(
                    f"The bytes that arrived do not have the digest sha256:{path.name[:12]}..., and are deleted.",
                    hint="Upload the file again from its start.",
                )
            await self._in_thread(_completed, file, path)
            entry.is_complete, entry.sha256, entry.at = True, None, self._clock.now()
            return UploadState(entry.received_bytes, is_complete=True)

    async def _delete(self, owner: str, name: str) -> None:
        entry = (await self._owned(owner)).pop(name, None)
        if entry is not None:
            await self._in_thread(_unlink, self._path(owner, name), self._path(owner, f"{name}.part"))

    async def _owned(self, owner: str) -> dict[str, _Entry]:
        if not _OWNER.fullmatch(owner):
            raise InvalidInput(f"{owner[:80]!r} is not the owner of an upload.")
        return (await self._all()).setdefault(owner, {})

    async def _all(self) -> dict[str, dict[str, _Entry]]:
        if self._entries is None:
            listed = await self._in_thread(_listed, self._folder)
            self._entries = listed if self._entries is None else self._entries
        return self._entries

    def _path(self, owner: str, name: str) -> Path:
        return self._folder / owner / name

    async def _in_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        """The result of a blocking function, which is waited for even when the caller is cancelled."""
        task = asyncio.ensure_future(asyncio.to_thread(function, *args))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull(
                    "The server's disk is full.", hint=f"Make room on the disk of {self._folder}: kaon gc"
                ) from None
            raise Unavailable(
                f"Uploads cannot be written: {error.strerror}.",
                hint=f"Check the folder {self._folder}: its permissions, and its disk.",
                retry_after_s=1.0,
            ) from None


def _check_in_charge(appender: _Appender) -> None:
    if appender.is_superseded:
        raise Conflict("A later request continues this upload.", hint="GET the upload to see how far it is.")


def _other_offset(entry: _Entry) -> Conflict:
    return Conflict(
        f"{entry.received_bytes} bytes of this upload have arrived; it can be continued there, or begin anew at 0.",
        hint="GET the upload, and continue at its `received_bytes`.",
    )


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidInput(f"{digest[:80]!r} is not a digest.", hint="Write it as sha256: and 64 hex digits.")
    return match.group(1)


def _listed(folder: Path) -> dict[str, dict[str, _Entry]]:
    """The files of a folder, which is made when it does not exist."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        owner.name: dict(_entries_in(Path(owner.path)))
        for owner in os.scandir(folder)
        if owner.is_dir(follow_symlinks=False) and _OWNER.fullmatch(owner.name)
    }


def _entries_in(folder: Path) -> Iterator[tuple[str, _Entry]]:
    for file in sorted(os.scandir(folder), key=lambda file: file.name, reverse=True):  # HEX after HEX.part
        match = _FILE.fullmatch(file.name)
        if match is not None:
            state = file.stat()
            yield match.group(1), _Entry(state.st_size, state.st_mtime, is_complete=match.group(2) is None)


def _opened(path: Path, entry: _Entry, offset: int) -> io.FileIO:
    """The part file, cut and positioned at `offset`, with the hash of the bytes before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+")
    try:
        if os.fstat(file.fileno()).st_size < offset:  # not what was written: the digest will not match
            entry.sha256 = None
        if entry.sha256 is None:
            entry.sha256 = hashlib.sha256()
            left = offset
            while left and (data := file.read(min(left, WRITE_BYTES))):
                entry.sha256.update(data)
                left -= len(data)
        file.truncate(offset)
        file.seek(offset)
    except BaseException:
        file.close()
        raise
    return file


def _append(file: io.FileIO, entry: _Entry, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except BaseException:
        with suppress(OSError):
            file.truncate(entry.received_bytes)
            file.seek(entry.received_bytes)
        raise
    entry.sha256.update(data)
    entry.received_bytes += len(data)


def _completed(file: io.FileIO, path: Path) -> None:
    """Give a part file its final name, when its bytes are on the disk."""
    os.fsync(file.fileno())
    os.replace(path.with_name(f"{path.name}.part"), path)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
