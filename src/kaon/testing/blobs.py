"""The contract of `Blobs` as tests, and a fake in memory: inherit `BlobsContract` and give it a place.

    class TestMyBlobs(BlobsContract):
        @pytest.fixture
        def place(self, tmp_path):
            return MyPlace(tmp_path)

A place makes objects over the same bytes, and can be made to fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from kaon.errors import InvalidInput, NotFound, TooLarge, Unavailable
from kaon.laws.retention import Blob
from kaon.store.port import Blobs


class MemoryBlobs:
    """`Blobs` in memory. `files` outlives the object, as a disk does; `fault` is raised by every method."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = {} if files is None else files
        self._spaces: dict[str, MemoryBlobs] = {}
        self.deciding = asyncio.Lock()
        self.full = False
        self.fault: Unavailable | None = None

    async def put(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> tuple[str, int]:
        """See `Blobs.put`."""
        self._check()
        data = b""
        async for chunk in chunks:
            data += chunk
            if len(data) > limit_bytes:
                raise TooLarge(f"More than {limit_bytes} bytes were sent.")
        if self.full:
            raise Unavailable("The disk is full.")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.files[digest] = data
        return digest, len(data)

    async def adopt(self, file: Path, digest: str) -> None:
        """See `Blobs.adopt`."""
        self._check()
        self.files[digest] = file.read_bytes()

    async def has(self, digest: str) -> bool:
        """See `Blobs.has`."""
        self._check()
        return digest.startswith("sha256:") and digest in self.files

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """See `Blobs.read`."""
        if not await self.has(digest):
            raise NotFound(f"There are no bytes with the digest {digest[:80]!r} here.")
        data = self.files[digest]
        yield data
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            raise Unavailable(f"The bytes of {digest} are damaged.")

    def within(self, space: str) -> MemoryBlobs:
        """See `Blobs.within`."""
        return self._spaces.setdefault(space, MemoryBlobs())

    async def spaces(self) -> list[str]:
        """See `Blobs.spaces`."""
        return sorted(self._spaces)

    async def put_files(self, files: Sequence[tuple[str, int]], chunks: AsyncIterator[bytes]) -> None:
        """See `Blobs.put_files`."""
        self._check()
        data = b"".join([chunk async for chunk in chunks])
        for digest, size in files:
            one, data = data[:size], data[size:]
            if digest != f"sha256:{hashlib.sha256(one).hexdigest()}":
                raise InvalidInput("A file has other content than its digest says.")
            if self.full:
                raise Unavailable("The disk is full.")
            self.files[digest] = one
        if data:
            raise InvalidInput("More bytes were sent than the files have.")

    async def read_files(self, digests: Sequence[str], offset: int = 0) -> AsyncIterator[bytes]:
        """See `Blobs.read_files`."""
        if missing := await self.missing(digests):
            raise NotFound(f"There are no bytes with the digest {missing[0][:80]!r} here.")
        for digest in digests:
            yield self.files[digest][offset:]
            offset = 0

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """See `Blobs.missing`."""
        return [digest for digest in digests if not await self.has(digest)]

    async def delete(self, digest: str) -> None:
        """See `Blobs.delete`."""
        self._check()
        self.files.pop(digest, None)

    async def list_all(self) -> list[Blob]:
        """See `Blobs.list_all`."""
        self._check()
        return [Blob(name, len(data), 0.0) for name, data in self.files.items()]

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


class BlobsPlace(Protocol):
    """Where blobs are kept."""

    def blobs(self) -> Blobs:
        """A new object over the same bytes, as after a restart of the server."""
        ...

    def damage(self, digest: str) -> None:
        """Replace some of the bytes of a digest, as a bad disk does."""
        ...

    def interrupt_upload(self) -> None:
        """Leave what a crash leaves of an upload."""
        ...

    def full(self) -> AbstractContextManager[object]:
        """While it lasts, nothing can be written."""
        ...

    def inaccessible(self) -> AbstractContextManager[object]:
        """While it lasts, nothing can be read, written or listed."""
        ...


async def chunks_of(*parts: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    """The parts one after the other, with other tasks in between; then `then` is raised."""
    for part in parts:
        await asyncio.sleep(0)
        yield part
    if then is not None:
        raise then


async def bytes_of(blobs: Blobs, digest: str) -> bytes:
    """All bytes of a digest."""
    return b"".join([chunk async for chunk in blobs.read(digest)])


def digest_of(data: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


NO_DIGESTS = ["", "../secret.key", "sha256:../../etc/passwd", f"sha256:{'A' * 64}", "0" * 64, "sha256:", "\x00"]


class BlobsContract:
    """The contract suite; tests get `place` from the fixture of a subclass."""

    async def test_bytes_come_back_by_their_digest_also_after_a_restart(self, place: BlobsPlace) -> None:
        digest, size = await place.blobs().put(chunks_of(b"one", b"", b"two"), 6)
        assert (digest, size) == (digest_of(b"onetwo"), 6)
        assert await place.blobs().has(digest)
        assert await bytes_of(place.blobs(), digest) == b"onetwo"

    async def test_many_chunks_are_put_together_in_order(self, place: BlobsPlace) -> None:
        parts = [secrets.token_bytes(70_000) for _ in range(20)]
        digest, size = await place.blobs().put(chunks_of(*parts), 2**30)
        assert (digest, size) == (digest_of(b"".join(parts)), 1_400_000)
        assert await bytes_of(place.blobs(), digest) == b"".join(parts)

    async def test_no_bytes_are_bytes_too(self, place: BlobsPlace) -> None:
        digest, size = await place.blobs().put(chunks_of(), 0)
        assert (digest, size, await bytes_of(place.blobs(), digest)) == (digest_of(b""), 0, b"")

    async def test_a_file_is_adopted_once_or_twice_and_stays(self, place: BlobsPlace, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"one")
        await place.blobs().adopt(file, digest_of(b"one"))
        await place.blobs().adopt(file, digest_of(b"one"))
        file.unlink()
        assert await bytes_of(place.blobs(), digest_of(b"one")) == b"one"
        assert [blob.size_bytes for blob in await place.blobs().list_all()] == [3]

    async def test_more_than_the_limit_is_refused_and_nothing_is_left(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        with pytest.raises(TooLarge):
            await blobs.put(chunks_of(b"one", b"two"), 5)
        assert await blobs.list_all() == []
        assert not await blobs.has(digest_of(b"one"))

    async def test_an_endless_upload_is_read_no_further_than_its_limit(self, place: BlobsPlace) -> None:
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 10

        with pytest.raises(TooLarge):
            await place.blobs().put(endless(), 100)
        assert taken == 11

    async def test_an_interrupted_upload_is_discarded_and_can_be_made_again(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        with pytest.raises(ConnectionResetError):
            await blobs.put(chunks_of(b"one", then=ConnectionResetError()), 100)
        assert await blobs.list_all() == []
        assert await blobs.put(chunks_of(b"one", b"two"), 100) == (digest_of(b"onetwo"), 6)

    async def test_a_cancelled_upload_is_discarded(self, place: BlobsPlace) -> None:
        blobs, arrived = place.blobs(), asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"one"
            arrived.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(blobs.put(stuck(), 100))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await blobs.list_all() == []

    async def test_what_a_crash_leaves_of_an_upload_is_listed_never_read_and_can_be_deleted(
        self, place: BlobsPlace
    ) -> None:
        place.interrupt_upload()
        blobs = place.blobs()
        [left] = await blobs.list_all()
        assert left.size_bytes > 0
        assert not await blobs.has(left.digest)
        with pytest.raises(NotFound):
            await bytes_of(blobs, left.digest)
        await blobs.delete(left.digest)
        assert await blobs.list_all() == []

    async def test_the_same_bytes_at_the_same_time_are_kept_once(self, place: BlobsPlace) -> None:
        put = [place.blobs().put(chunks_of(b"same" * 10_000, b"bytes"), 10**6) for _ in range(5)]
        broken = place.blobs().put(chunks_of(b"same" * 10_000, then=ConnectionResetError()), 10**6)
        *kept, failed = await asyncio.gather(*put, broken, return_exceptions=True)
        assert set(kept) == {(digest_of(b"same" * 10_000 + b"bytes"), 40_005)}
        assert isinstance(failed, ConnectionResetError)
        assert [blob.size_bytes for blob in await place.blobs().list_all()] == [40_005]

    async def test_deleted_bytes_are_gone_and_deleting_twice_is_no_error(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        digest, _ = await blobs.put(chunks_of(b"x"), 1)
        await blobs.delete(digest)
        await blobs.delete(digest)
        assert (await blobs.has(digest), await blobs.list_all()) == (False, [])
        with pytest.raises(NotFound):
            await bytes_of(blobs, digest)

    async def test_bytes_that_are_deleted_while_they_are_read_are_read_to_the_end(self, place: BlobsPlace) -> None:
        blobs, data = place.blobs(), secrets.token_bytes(2**20)
        digest, _ = await blobs.put(chunks_of(data), 2**20)
        reading = blobs.read(digest)
        first = await anext(reading)
        await blobs.delete(digest)
        assert first + b"".join([chunk async for chunk in reading]) == data

    async def test_all_bytes_are_listed_with_their_sizes(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        assert await blobs.list_all() == []
        for data in (b"one", b"three"):
            await blobs.put(chunks_of(data), 10)
        listed = {blob.digest: blob.size_bytes for blob in await place.blobs().list_all()}
        assert listed == {digest_of(b"one"): 3, digest_of(b"three"): 5}

    async def test_damaged_bytes_are_refused_at_their_end(self, place: BlobsPlace) -> None:
        digest, _ = await place.blobs().put(chunks_of(b"good"), 100)
        place.damage(digest)
        with pytest.raises(Unavailable, match="damaged"):
            await bytes_of(place.blobs(), digest)
        await place.blobs().put(chunks_of(b"good"), 100)
        assert await bytes_of(place.blobs(), digest) == b"good"

    async def test_files_come_in_one_stream_and_are_read_in_one(self, place: BlobsPlace) -> None:
        parts = [b"", b"one", secrets.token_bytes(3_000_000), b"", b"last"]
        files, whole = [(digest_of(part), len(part)) for part in parts], b"".join(parts)
        blobs = place.blobs()
        cut = [whole[i : i + 70_000] for i in range(0, len(whole), 70_000)]
        await blobs.put_files(files, chunks_of(*cut))
        digests = [digest for digest, _ in files]
        assert await place.blobs().missing(digests) == []
        assert b"".join([chunk async for chunk in place.blobs().read_files(digests)]) == whole
        assert b"".join([c async for c in blobs.read_files(digests[2:], 2_999_999)]) == parts[2][-1:] + b"last"

    async def test_a_stream_of_other_content_keeps_the_files_before_it(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        files = [(digest_of(b"one"), 3), (digest_of(b"two"), 3)]
        for wrong in (b"onetwX", b"on", b"oneXXXX"):
            with pytest.raises(InvalidInput):
                await blobs.put_files(files, chunks_of(wrong))
            assert not await blobs.has(files[1][0])
        assert await blobs.has(files[0][0])
        with pytest.raises(InvalidInput):
            await blobs.put_files(files, chunks_of(b"onetwo", b"!"))
        assert {blob.digest for blob in await blobs.list_all()} <= {digest for digest, _ in files}

    async def test_bytes_that_are_missing_are_listed_in_order(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        await blobs.put(chunks_of(b"there"), 10)
        for count in (2, 1500):
            others = [digest_of(str(n).encode()) for n in range(count)]
            assert await blobs.missing([*others, digest_of(b"there")]) == others
        with pytest.raises(NotFound):
            assert [chunk async for chunk in blobs.read_files([digest_of(b"there"), digest_of(b"1")])]

    async def test_a_space_has_its_own_bytes(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        one, other = blobs.within("one"), blobs.within("other")
        digest, _ = await one.put(chunks_of(b"x"), 1)
        assert (await one.has(digest), await other.has(digest), await blobs.has(digest)) == (True, False, False)
        assert await blobs.list_all() == []
        assert "one" in await blobs.spaces()
        assert blobs.within("one") is one

    @pytest.mark.parametrize("name", NO_DIGESTS)
    async def test_nothing_but_a_digest_names_bytes(self, place: BlobsPlace, name: str) -> None:
        blobs = place.blobs()
        await blobs.put(chunks_of(b"x"), 1)
        assert not await blobs.has(name)
        with pytest.raises(NotFound):
            await bytes_of(blobs, name)
        await blobs.delete(name)
        assert len(await blobs.list_all()) == 1

    async def test_a_full_disk_is_no_fault_of_the_caller_and_spoils_nothing(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        digest, _ = await blobs.put(chunks_of(b"before"), 100)
        with place.full(), pytest.raises(Unavailable):
            await blobs.put(chunks_of(b"more"), 100)
        assert [blob.digest for blob in await blobs.list_all()] == [digest]
        assert await bytes_of(blobs, digest) == b"before"
        await blobs.put(chunks_of(b"more"), 100)

    async def test_a_place_that_cannot_be_accessed_is_not_taken_for_an_empty_one(self, place: BlobsPlace) -> None:
        blobs = place.blobs()
        digest, _ = await blobs.put(chunks_of(b"kept"), 100)
        with place.inaccessible():
            for attempt in (
                blobs.has(digest),
                bytes_of(blobs, digest),
                blobs.list_all(),
                blobs.delete(digest),
                blobs.put(chunks_of(b"more"), 100),
                blobs.adopt(Path(__file__), digest_of(b"file")),
            ):
                with pytest.raises(Unavailable):
                    await attempt
        assert await bytes_of(blobs, digest) == b"kept"
