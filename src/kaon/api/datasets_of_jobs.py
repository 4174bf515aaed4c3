"""The datasets that jobs read and write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from kaon.api.context import ApiContext
from kaon.api.quotas import check_dataset_bytes
from kaon.datasets.versions import keep_manifest, new_version, resolve
from kaon.errors import InvalidInput
from kaon.store.writes import Write
from kaon.types.dataset import DatasetManifest, DatasetOrigin, DatasetVersionRef
from kaon.types.resource import JobResource

FILE_BYTES_MAX = 2**40


@dataclass(frozen=True, slots=True)
class Published:
    """The versions that the outputs of an attempt become, and the writes that make them."""

    refs: Mapping[str, DatasetVersionRef]
    writes: tuple[Write, ...] = ()


def version_of(context: ApiContext, ws: str, ref: str) -> DatasetVersionRef:
    """The version that a reference means now. Raises `InvalidInput` when there is none."""
    return resolve(context.snapshot, ws, ref)


async def published(context: ApiContext, job: JobResource, outputs: Mapping[str, DatasetManifest]) -> Published:
    """What publishes the outputs of a job's current attempt, with their lineage.

    Hold the deciding lock of the workspace's files until it is written. Raises `Conflict` when files have not been
    uploaded.
    """
    space = context.blobs.within(job.workspace)
    inputs = tuple(sorted(ref.text for ref in job.spec.inputs.values()))
    origin = DatasetOrigin(job=job.name, attempt=job.status.attempts[-1].number, inputs=inputs)
    refs: dict[str, DatasetVersionRef] = {}
    writes: list[Write] = []
    for parameter, dataset in sorted(job.spec.outputs.items()):
        manifest = outputs[parameter]
        digest = await keep_manifest(space, manifest)
        made = new_version(
            context.snapshot, job.workspace, dataset, manifest, digest, created_by=job.spec.owner, origin=origin
        )
        refs[parameter] = made.ref
        writes += made.writes
    return Published(refs, tuple(writes))


async def missing(context: ApiContext, job: JobResource, digests: Sequence[str]) -> list[str]:
    """Which of these files of outputs have to be uploaded."""
    return list(await context.blobs.within(job.workspace).missing(list(digests)))


async def keep_file(
    context: ApiContext, job: JobResource, digest: str, chunks: AsyncIterator[bytes], size_bytes: int
) -> None:
    """Keep a file of an output. Raises `InvalidInput` when its bytes have another digest, `QuotaReached`."""
    await check_dataset_bytes(context, job.workspace, size_bytes)
    space = context.blobs.within(job.workspace)
    kept, _ = await space.put(chunks, FILE_BYTES_MAX)
    if kept != digest:
        await space.delete(kept)
        raise InvalidInput(f"The bytes have the digest {kept}, not {digest}.", hint="Send the file again.")
