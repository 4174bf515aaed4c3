"""The datasets that jobs read and write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from kaon.api.context import ApiContext
from kaon.api.problems import Unprocessable
from kaon.errors import InvalidInput
from kaon.store.writes import Write
from kaon.types.dataset import DatasetManifest, DatasetVersionRef
from kaon.types.resource import JobResource

FILE_BYTES_MAX = 2**40


@dataclass(frozen=True, slots=True)
class Published:
    """The versions that the outputs of an attempt become, and the writes that make them."""

    refs: Mapping[str, DatasetVersionRef]
    writes: tuple[Write, ...] = ()


def resolve(context: ApiContext, ws: str, ref: str) -> DatasetVersionRef:
    """The version that a reference means now. Raises `Unprocessable` when there is none."""
    raise Unprocessable(f"There is no dataset '{ref}' in workspace '{ws}'.")


async def published(context: ApiContext, job: JobResource, outputs: Mapping[str, DatasetManifest]) -> Published:
    """What publishes the outputs of a job's current attempt. Hold the deciding lock of the blobs until it is written.

    Raises `Conflict` when files have not been uploaded.
    """
    return Published({})


async def missing(context: ApiContext, job: JobResource, digests: Sequence[str]) -> list[str]:
    """Which of these files of outputs have to be uploaded."""
    return [digest for digest in digests if not await context.blobs.has(digest)]


async def keep_file(context: ApiContext, job: JobResource, digest: str, chunks: AsyncIterator[bytes]) -> None:
    """Keep a file of an output. Raises `InvalidInput` when its bytes have another digest."""
    kept, _ = await context.blobs.put(chunks, FILE_BYTES_MAX)
    if kept != digest:
        await context.blobs.delete(kept)
        raise InvalidInput(f"The bytes have the digest {kept}, not {digest}.", hint="Send the file again.")
