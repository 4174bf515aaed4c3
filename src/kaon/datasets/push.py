"""A folder becomes a version: only what the platform lacks is sent, by several requests at once.

What was sent stays when the push is cut, and the next push of the folder goes on from there. A server that starts anew
meanwhile is sent the manifest again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from kaon.datasets.batches import FileBatch, batches
from kaon.datasets.folder import OnBytes, content_of, find_files, hashed, open_plain
from kaon.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, TooManyRequests, Unavailable
from kaon.types.dataset import DatasetFile, DatasetManifest

REQUESTS = 4
"""Requests at once."""
PART_BYTES = 32 * 2**20
"""Of a large file in one request."""
_ROUNDS = 6
_RETRY_S = 0.5


class PushTarget(Protocol):
    """The platform, as a push needs it. Every method may raise a `KaonError`."""

    def begin(self, manifest: DatasetManifest) -> Sequence[tuple[int, int]]:
        """Begin or resume; the missing files, as (first, count)."""
        ...

    def send(self, first: int, count: int, content: Iterator[bytes], size_bytes: int) -> None:
        """Send files that follow one another."""
        ...

    def received(self, digest: str) -> int:
        """How many bytes of a large file have arrived."""
        ...

    def append(self, file: DatasetFile, offset: int, content: bytes) -> None:
        """Send a part of a large file."""
        ...

    def take(self, digest: str) -> None:
        """Make a large file, which has arrived, a part of the push."""
        ...


class Steps(Protocol):
    """Shows how far a push or pull is."""

    def begin(self, step: str, size_bytes: int) -> None:
        """A step with so many bytes begins."""
        ...

    def add(self, size_bytes: int) -> None:
        """So many bytes more are done. It may be called from any thread."""
        ...


class NoSteps:
    """Shows nothing."""

    def begin(self, step: str, size_bytes: int) -> None:
        """See `Steps.begin`."""

    def add(self, size_bytes: int) -> None:
        """See `Steps.add`."""


def manifest_of_folder(folder: Path, steps: Steps) -> DatasetManifest:
    """The manifest of a folder. Raises `InvalidInput`, OSError."""
    files = find_files(folder)
    steps.begin("Hashing", sum(file.size_bytes for file in files))
    return hashed(folder, files, steps.add)


def send_missing(
    target: PushTarget,
    folder: Path,
    manifest: DatasetManifest,
    steps: Steps,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send what the platform lacks of a manifest, until it lacks nothing. Raises a `KaonError`, OSError."""
    for attempt in range(_ROUNDS):
        try:
            missing = [index for first, count in target.begin(manifest) for index in range(first, first + count)]
            if not missing:
                return
            steps.begin("Sending", sum(manifest.files[index].size_bytes for index in missing))
            _send(target, folder, list(batches(manifest, missing)), steps.add)
        except (Unavailable, DeadlineExceeded, NotFound, TooManyRequests):
            if attempt == _ROUNDS - 1:
                raise
            sleep(_RETRY_S * 2**attempt)
    if target.begin(manifest):
        raise Conflict("Files that were sent are missing again.", hint="Push again; see the server's log.")


def _send(target: PushTarget, folder: Path, todo: Sequence[FileBatch], on_bytes: OnBytes) -> None:
    def send(batch: FileBatch) -> None:
        if batch.is_large:
            _send_large(target, folder, batch.files[0], on_bytes)
        else:
            content = content_of(folder, list(batch.files))
            target.send(batch.first, len(batch.files), content, batch.size_bytes)
            on_bytes(batch.size_bytes)

    in_threads(send, todo)


def in_threads(work: Callable[[FileBatch], None], todo: Sequence[FileBatch]) -> None:
    """Do `work` for all, some at once; the first error ends what has not begun."""
    pool = ThreadPoolExecutor(min(REQUESTS, max(1, len(todo))))
    try:
        for done in [pool.submit(work, batch) for batch in todo]:
            done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _send_large(target: PushTarget, folder: Path, file: DatasetFile, on_bytes: OnBytes) -> None:
    offset = target.received(file.digest)
    on_bytes(offset)
    descriptor = open_plain(folder / file.path)
    try:
        while offset < file.size_bytes:
            content = os.pread(descriptor, min(PART_BYTES, file.size_bytes - offset), offset)
            if not content:
                raise InvalidInput(
                    f"{file.path} changed while it was sent.", hint="Push again when nothing writes to it."
                )
            target.append(file, offset, content)
            offset += len(content)
            on_bytes(len(content))
    finally:
        os.close(descriptor)
    target.take(file.digest)
