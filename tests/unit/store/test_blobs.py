"""Bytes by their digest, in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaon.errors import NotFound, TooLarge, Unavailable
from kaon.store.blobs import FileBlobs


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(blobs: FileBlobs, digest: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(digest)])


async def test_bytes_come_back_by_their_digest(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    digest, size = await blobs.put(chunks(b"one", b"two"), limit_bytes=6)
    assert (digest, size) == (f"sha256:{hashlib.sha256(b'onetwo').hexdigest()}", 6)
    assert await blobs.has(digest)
    assert await read(blobs, digest) == b"onetwo"
    assert await blobs.put(chunks(b"onetwo"), limit_bytes=6) == (digest, 6)
    (file,) = (tmp_path / "blobs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


async def test_too_many_bytes_leave_nothing_behind(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    with pytest.raises(TooLarge):
        await blobs.put(chunks(b"one", b"two"), limit_bytes=5)
    assert list(tmp_path.iterdir()) == []


async def test_an_upload_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await FileBlobs(tmp_path).put(broken(), limit_bytes=100)
    assert list(tmp_path.iterdir()) == []


async def test_bytes_that_the_disk_changed_are_not_passed_on_as_good(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest, _ = await blobs.put(chunks(b"good"), limit_bytes=100)
    (tmp_path / digest.removeprefix("sha256:")).write_bytes(b"evil")
    with pytest.raises(Unavailable, match="damaged"):
        await read(blobs, digest)


@pytest.mark.parametrize("digest", ["", "../secret.key", "sha256:../../etc/passwd", f"sha256:{'A' * 64}", "0" * 64])
async def test_nothing_but_a_digest_names_anything(tmp_path: Path, digest: str) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    (tmp_path / "secret.key").write_text("secret")
    assert not await blobs.has(digest)
    with pytest.raises(NotFound):
        await read(blobs, digest)
    await blobs.delete(digest)
    assert (tmp_path / "secret.key").exists()


async def test_deleted_bytes_are_gone(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest, _ = await blobs.put(chunks(b"x"), limit_bytes=1)
    await blobs.delete(digest)
    await blobs.delete(digest)
    assert not await blobs.has(digest)


async def test_all_bytes_are_listed_and_what_a_crash_left_of_some_can_be_deleted(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    assert await blobs.list_all() == []
    digest, size = await blobs.put(chunks(b"some bytes"), 100)
    left = tmp_path / "blobs" / f".{'a' * 16}.part"
    left.write_bytes(b"half")
    listed = {blob.digest: blob.size_bytes for blob in await blobs.list_all()}
    assert listed == {digest: size, left.name: 4}
    for name in listed:
        await blobs.delete(name)
    assert await blobs.list_all() == []
