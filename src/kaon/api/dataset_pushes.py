"""`/workspaces/{ws}/datasets/{name}/pushes` and `/versions`: how a version comes to be.

A push sends the manifest first, and the answer lists which of its files are missing; these come as streams of many
files, in the order of the manifest. The version is created when all have arrived, with the next number.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from kaon.api import audit, edits
from kaon.api.collection import ReadContext
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.dataset_views import (
    CountParam,
    FirstParam,
    check_whole_workspace,
    collection,
    some_files,
    version_view,
    versions_collection,
)
from kaon.api.problems import Unprocessable
from kaon.api.quotas import check_count, check_dataset_bytes
from kaon.api.router import AuthorizedRouter
from kaon.api.uploads import uploaded
from kaon.api.views import (
    DatasetVersionView,
    Push,
    VersionRequest,
)
from kaon.datasets.versions import (
    distinct,
    keep_manifest,
    new_version,
    resolve,
    versions_of,
)
from kaon.errors import InvalidInput, NotFound, RequestTimeout
from kaon.laws.datasets import check_files, ranges, size_of
from kaon.sdk.codec import codec_of
from kaon.sdk.problems import invalid
from kaon.types.dataset import DatasetManifest
from kaon.types.key import Right
from kaon.types.model import Digest, content_hash
from kaon.types.resource import DatasetVersion

MANIFEST_LIMIT_BYTES = 64 * 2**20
router = AuthorizedRouter("/workspaces/{ws}/datasets", tag="datasets")

PushParam = Annotated[Digest, PathParameter(alias="push", description="`push` of the answer to the manifest.")]
BYTES = {
    "requestBody": {
        "required": True,
        "description": "The files' bytes, one after the other.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/{name}/pushes",
    right=Right.WRITE,
    body_limit_bytes=MANIFEST_LIMIT_BYTES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The manifest of the version: its files by path, in order.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def begin_push(
    ws: WorkspaceParam, name: Named, request: Request, context: WithContext, caller: WithCaller
) -> Push:
    """Begin or resume a version: which of its files are missing."""
    check_whole_workspace(caller)
    if await context.store.find("dataset", ws, name) is None:
        await check_count(context, "dataset", ws)
    data = await request.body()
    digest, manifest = await asyncio.to_thread(_manifest, data)
    if len(manifest.files) > context.settings.most_dataset_files:
        raise Unprocessable(
            f"A version has at most {context.settings.most_dataset_files:,} files, not {len(manifest.files):,}.",
            hint="Pack small files into larger ones; or raise KAON_MOST_DATASET_FILES.",
        )
    missing = await context.blobs.within(ws).missing([file.digest for file in manifest.files])
    left = set(missing)
    files = [file for file in distinct(manifest.files) if file.digest in left]
    if missing:
        await check_dataset_bytes(context, ws, size_of(files))
    context.pushes.add(ws, digest, manifest)
    return Push(push=digest, missing=ranges(_first_of_each(manifest, left)), missing_bytes=size_of(files))


def _manifest(data: bytes) -> tuple[str, DatasetManifest]:
    try:
        manifest: DatasetManifest = codec_of(DatasetManifest).bulk_reader.validate_json(data, extra="forbid")
    except ValidationError as error:
        found = invalid(error, "body").errors
        raise Unprocessable(
            "This is not the manifest of a dataset.",
            hint="See `errors` for the places; the types are in /api/v1/openapi.json.",
            errors=[{"where": each["where"], "message": each["problem"]} for each in found],
        ) from None
    check_files(manifest.files)
    return f"sha256:{content_hash(manifest)}", manifest


def _pushed(context: ApiContext, ws: str, push: str) -> DatasetManifest:
    """The manifest of a push. Raises `NotFound` when the server does not hold it any more."""
    found = context.pushes.find(ws, push)
    if found is None:
        raise NotFound("This push is not known, or no longer.", hint="Send its manifest again.")
    return found


def _first_of_each(manifest: DatasetManifest, missing: set[str]) -> list[int]:
    """Indexes of the missing files: of equal ones, the first."""
    found, left = [], set(missing)
    for index, file in enumerate(manifest.files):
        if file.digest in left:
            left.remove(file.digest)
            found.append(index)
    return found


@router.put("/{name}/pushes/{push}/files", right=Right.WRITE, status_code=204, openapi_extra=BYTES)
async def put_files(
    ws: WorkspaceParam,
    name: Named,
    push: PushParam,
    first: FirstParam,
    count: CountParam,
    request: Request,
    context: WithContext,
    caller: WithCaller,
) -> None:
    """Send files of a push: the bytes of `count` files from the `first` on, one after the other."""
    check_whole_workspace(caller)
    files = some_files(_pushed(context, ws, push), first, count)
    with context.streams.open(caller.uid):
        try:
            await context.blobs.within(ws).put_files([(f.digest, f.size_bytes) for f in files], request.stream())
        except ClientDisconnect:
            raise RequestTimeout("The request was cut.", hint="Begin the push again: it goes on from there.") from None


@router.put("/{name}/pushes/{push}/files/{digest}", right=Right.WRITE, status_code=204)
async def put_uploaded_file(
    ws: WorkspaceParam,
    name: Named,
    push: PushParam,
    digest: Annotated[Digest, PathParameter(description="Digest of a file of the push.")],
    context: WithContext,
    caller: WithCaller,
) -> None:
    """Take a large file of a push from a complete upload: see `/workspaces/{ws}/uploads`."""
    check_whole_workspace(caller)
    if all(file.digest != digest for file in _pushed(context, ws, push).files):
        raise Unprocessable(f"The push has no file {digest}.")
    space = context.blobs.within(ws)
    if not await space.missing([digest]):
        return
    async with uploaded(context, caller, ws, digest) as file:
        await space.adopt(file, digest)


@router.post("/{name}/versions", right=Right.WRITE, status_code=201, responses={200: {"model": DatasetVersionView}})
async def create_version(
    ws: WorkspaceParam,
    name: Named,
    body: VersionRequest,
    response: Response,
    context: WithContext,
    caller: WithCaller,
) -> DatasetVersionView:
    """Create the next version (201) of a push whose files are all there; 200: the latest one has equal files."""
    check_whole_workspace(caller)
    manifest = _pushed(context, ws, body.push)
    space = context.blobs.within(ws)

    async def attempt() -> tuple[DatasetVersion, bool]:
        await context.snapshot.at_least(context.store.written)
        existing = versions_of(context.snapshot, ws, name)
        if existing and (latest := existing[max(existing)]).spec.manifest == body.push:
            return latest, False
        if context.snapshot.find("dataset", ws, name) is None:
            await check_count(context, "dataset", ws)
        made = new_version(context.snapshot, ws, name, manifest, body.push, created_by=caller.name)
        message = f"Version {made.ref.number}: {len(manifest.files):,} files, {size_of(manifest.files):,} bytes."
        first = [w for change in made.writes[:-1] for w in audit.with_record(context, caller, change)]
        last = audit.recorded(context, caller, made.writes[-1], "VersionCreated", message)
        written = await context.store.write([*first, *last])
        return written[-1], True

    async with space.deciding:  # nothing of it is collected before the version names it
        await keep_manifest(space, manifest)
        version, is_new = await edits.retry_on_conflict(attempt)
    context.pushes.drop(ws, body.push)
    await context.snapshot.at_least(context.store.written)
    response.status_code = 201 if is_new else 200
    return version_view(version, ReadContext(context, caller, ws))


# Versions


@router.get("/{name}/versions/{ref}", right=Right.READ)
async def get_version(
    ws: WorkspaceParam,
    name: Named,
    ref: Annotated[str, PathParameter(max_length=40, pattern=r"^[a-z0-9-]+$", description="latest, N or LABEL.")],
    context: WithContext,
    caller: WithCaller,
) -> DatasetVersionView:
    """The version that a number or a label means now."""
    read = ReadContext(context, caller, ws)
    collection.one(read, name)
    try:
        found = resolve(context.snapshot, ws, f"{name}@{ref}")
    except InvalidInput as error:
        raise _no_version(error) from None
    view: DatasetVersionView = versions_collection.one(read, found.text)  # type: ignore[assignment]
    return view


def _no_version(error: InvalidInput) -> Unprocessable:
    return Unprocessable(error.cause, hint=error.hint)
