"""`/workspaces/{ws}/dataset-versions`: manifests, files, differences, verification."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from kaon.api import audit, edits
from kaon.api.context import WithCaller, WithContext, WorkspaceParam
from kaon.api.dataset_views import (
    BYTES_ANSWER,
    CountParam,
    FirstParam,
    OffsetParam,
    VersionParam,
    check_whole_workspace,
    files_streamed,
    in_use_by,
    manifest_read,
    some_files,
    version_seen,
)
from kaon.api.preconditions import WithPrecondition, check_precondition
from kaon.api.router import AuthorizedRouter
from kaon.api.views import (
    DatasetDifference,
    FilesVerified,
)
from kaon.datasets.versions import (
    needed_by,
    uses,
)
from kaon.errors import Conflict, NotFound
from kaon.laws.datasets import difference, size_of
from kaon.store.port import Blobs
from kaon.store.writes import Delete, UpdateStatus, Write
from kaon.types.dataset import DatasetFile, DatasetManifest
from kaon.types.key import Right
from kaon.types.kinds.dataset_version import VersionName

_SHOWN = 1000
"""Files of each kind that a difference lists."""
router = AuthorizedRouter("/workspaces/{ws}/dataset-versions", tag="dataset-versions")


@router.get("/{name}/manifest", right=Right.READ, response_model=DatasetManifest)
async def get_manifest(
    ws: WorkspaceParam, name: VersionParam, context: WithContext, caller: WithCaller
) -> StreamingResponse:
    """The files of a version, by path."""
    version = version_seen(context, caller, ws, name)
    return StreamingResponse(context.blobs.within(ws).read(version.spec.manifest), media_type="application/json")


@router.get(
    "/{name}/files",
    right=Right.READ,
    response_class=StreamingResponse,
    responses=BYTES_ANSWER,
)
async def get_files(
    ws: WorkspaceParam,
    name: VersionParam,
    first: FirstParam,
    count: CountParam,
    context: WithContext,
    caller: WithCaller,
    offset: OffsetParam = 0,
) -> StreamingResponse:
    """The bytes of `count` files from the `first` on, one after the other."""
    version = version_seen(context, caller, ws, name)
    return await files_streamed(context, ws, version.spec.manifest, first, count, offset)


@router.get("/{name}/difference", right=Right.READ)
async def get_difference(
    ws: WorkspaceParam,
    name: VersionParam,
    base: Annotated[VersionName, Query(description="The other version, like 'purchases@3'.")],
    context: WithContext,
    caller: WithCaller,
) -> DatasetDifference:
    """What a version has that `base` has not, by path."""
    older, newer = version_seen(context, caller, ws, base), version_seen(context, caller, ws, name)
    found = difference(
        await manifest_read(context, ws, older.spec.manifest), await manifest_read(context, ws, newer.spec.manifest)
    )
    return DatasetDifference(
        added=found.added[:_SHOWN],
        removed=found.removed[:_SHOWN],
        changed=found.changed[:_SHOWN],
        added_count=len(found.added),
        removed_count=len(found.removed),
        changed_count=len(found.changed),
    )


@router.post("/{name}/verify", right=Right.WRITE)
async def verify_version(
    ws: WorkspaceParam,
    name: VersionParam,
    first: FirstParam,
    count: CountParam,
    context: WithContext,
    caller: WithCaller,
) -> FilesVerified:
    """Read `count` stored files of a version from the `first` on, and compare them with their digests.

    Damaged bytes are deleted, so that the next push of the file sends it again.
    """
    check_whole_workspace(caller)
    version, space = version_seen(context, caller, ws, name), context.blobs.within(ws)
    files = some_files(await manifest_read(context, ws, version.spec.manifest), first, count)
    with context.streams.open(caller.uid):
        damaged = [file for file in files if not await _is_whole(space, file)]
    for file in damaged:
        await space.delete(file.digest)
    return FilesVerified(files=len(files), size_bytes=size_of(files), damaged=tuple(damaged))


async def _is_whole(space: Blobs, file: DatasetFile) -> bool:
    sha256 = hashlib.sha256()
    try:
        async for chunk in space.read_files([file.digest]):
            await asyncio.to_thread(sha256.update, chunk)
    except NotFound:
        return False
    return f"sha256:{sha256.hexdigest()}" == file.digest


@router.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_version(
    ws: WorkspaceParam,
    name: VersionParam,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> None:
    """Delete a version that no deployment, no job and no label needs."""
    check_whole_workspace(caller)

    async def attempt() -> None:
        version = await edits.get_any(context.store, ("dataset-version", ws, name))
        await check_precondition(context, precondition, version, "dataset-version", ws, name)
        await context.snapshot.at_least(context.store.written)
        dataset_name, _, number = name.partition("@")
        dataset = context.snapshot.find("dataset", ws, dataset_name)
        labels = [] if dataset is None else [k for k, n in dataset.status.labels.items() if n == int(number)]
        if labels:
            raise Conflict(
                f"Version {name} has the label '{labels[0]}'.",
                hint=f"Move it first: kaon dataset label {dataset_name}@N {labels[0]}",
            )
        if users := needed_by(uses(context.snapshot, ws).get(name, [])):
            raise in_use_by(name, users)
        first: list[Write] = []
        if dataset is not None:  # so that a label which is set now conflicts
            counted = dataset.status.model_copy(update={"removed": dataset.status.removed + 1})
            first = [UpdateStatus(dataset, counted)]
        own = audit.recorded(context, caller, Delete(version), "VersionDeleted", "Deleted.")
        await context.store.write([*first, *own])

    await edits.retry_on_conflict(attempt)
