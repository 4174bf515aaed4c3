"""Every adapter of `Blobs` passes the same suite."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaon.errors import Unavailable
from kaon.store.blobs import FileBlobs
from kaon.testing.blobs import BlobsContract, MemoryBlobs


class FolderPlace:
    """A folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blobs(self) -> FileBlobs:
        return FileBlobs(self.folder)

    def damage(self, digest: str) -> None:
        path = self.folder / digest.removeprefix("sha256:")
        path.write_bytes(b"x" + path.read_bytes()[1:])

    def interrupt_upload(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f".{'a' * 16}.part").write_bytes(b"half")

    @contextmanager
    def full(self) -> Iterator[None]:
        """No file of this process can grow: the system refuses each write."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    @contextmanager
    def inaccessible(self) -> Iterator[None]:
        """The folder is a file, which stops root too; permissions do not."""
        aside = self.folder.with_name("aside")
        self.folder.rename(aside)
        self.folder.write_text("")
        yield
        self.folder.unlink()
        aside.rename(self.folder)


class MemoryPlace:
    """The fake's bytes."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._made: list[MemoryBlobs] = []

    def blobs(self) -> MemoryBlobs:
        self._made.append(MemoryBlobs(self._files))
        return self._made[-1]

    def damage(self, digest: str) -> None:
        self._files[digest] = b"damaged"

    def interrupt_upload(self) -> None:
        self._files[".part"] = b"half"

    @contextmanager
    def full(self) -> Iterator[None]:
        for blobs in self._made:
            blobs.full = True
        yield
        for blobs in self._made:
            blobs.full = False

    @contextmanager
    def inaccessible(self) -> Iterator[None]:
        for blobs in self._made:
            blobs.fault = Unavailable("The disk is away.")
        yield
        for blobs in self._made:
            blobs.fault = None


class TestFileBlobs(BlobsContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> FolderPlace:
        return FolderPlace(tmp_path / "blobs")


class TestMemoryBlobs(BlobsContract):
    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()
