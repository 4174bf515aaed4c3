"""Files of a manifest in batches of one request: many small ones together, a large one alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kaon.types.dataset import DatasetFile, DatasetManifest

LARGE_BYTES = 32 * 2**20
"""From this size on a file is sent alone, and can be resumed in its middle."""
BATCH_BYTES = 16 * 2**20
BATCH_FILES = 2000


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that follow one another in the manifest."""

    first: int
    files: tuple[DatasetFile, ...]

    @property
    def is_large(self) -> bool:
        """Whether it is one large file."""
        return self.files[0].size_bytes >= LARGE_BYTES

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)


def batches(manifest: DatasetManifest, indexes: Iterable[int]) -> Iterator[FileBatch]:
    """The files at rising indexes, in batches."""
    first, files, size = 0, list[DatasetFile](), 0
    for index in indexes:
        file = manifest.files[index]
        alone = file.size_bytes >= LARGE_BYTES or (files and files[0].size_bytes >= LARGE_BYTES)
        full = alone or size + file.size_bytes > BATCH_BYTES or len(files) == BATCH_FILES
        if files and (index != first + len(files) or full):
            yield FileBatch(first, tuple(files))
            files, size = [], 0
        if not files:
            first = index
        files.append(file)
        size += file.size_bytes
    if files:
        yield FileBatch(first, tuple(files))
