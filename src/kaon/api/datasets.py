"""`/workspaces/{ws}/datasets` and `/dataset-versions`: pushes, labels, differences, files.

A push sends the manifest first, and is told which of its files are missing; these come as streams of many files, in
the order of the manifest. The version is created when all are there, with the next number.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import Path as PathParameter
from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from kaon.api import audit, edits
from kaon.api.collection import Collection, ReadContext, not_found
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.preconditions import WithPrecondition, check_precondition
from kaon.api.problems import Unprocessable
from kaon.api.quotas import check_count, check_dataset_bytes
from kaon.api.router import AuthorizedRouter
from kaon.api.uploads import uploaded
from kaon.api.views import (
    DatasetDifference,
    DatasetVersionView,
    DatasetView,
    FilesVerified,
    LabelRequest,
    Push,
    VersionRequest,
)
from kaon.datasets.versions import (
    distinct,
    keep_manifest,
    labels_of,
    mounted,
    needed_by,
    new_version,
    read_manifest,
    resolve,
    uses,
    version_named,
    versions_of,
)
from kaon.errors import Conflict, Forbidden, InvalidInput, NotFound, RequestTimeout
from kaon.laws.datasets import LATEST, check_files, difference, ranges, size_of
from kaon.sdk.codec import codec_of
from kaon.sdk.problems import invalid
from kaon.store.port import AnyResource, Blobs
from kaon.store.writes import Delete, RecordAudit, UpdateStatus, Write
from kaon.types.dataset import DatasetFile, DatasetManifest
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.kinds.dataset_version import VersionName
from kaon.types.model import Digest, Name, content_hash
from kaon.types.resource import DatasetResource, DatasetVersion, Unreadable

MANIFEST_LIMIT_BYTES = 64 * 2**20
FILES_AT_ONCE = 10_000
_SHOWN = 1000
"""Files of each kind that a difference lists."""

router = AuthorizedRouter("/workspaces/{ws}/datasets", tag="datasets")
versions_router = AuthorizedRouter("/workspaces/{ws}/dataset-versions", tag="dataset-versions")

DatasetParam = Named
VersionParam = Annotated[VersionName, PathParameter(alias="name")]
PushParam = Annotated[Digest, PathParameter(alias="push", description="`push` of the answer to the manifest.")]
FirstParam = Annotated[int, Query(ge=0, le=10**7, description="Index of the first file in the manifest.")]
CountParam = Annotated[int, Query(ge=1, le=FILES_AT_ONCE, description="How many files, from the first one on.")]
BYTES = {
    "requestBody": {
        "required": True,
        "description": "The files' bytes, one after the other.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

BYTES_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


def _uses(read: ReadContext) -> dict[str, list[str]]:
    return read.once("dataset uses", lambda: uses(read.context.snapshot, read.workspace))


def _visible(read: ReadContext) -> frozenset[str] | None:
    """The versions that a key for some deployments sees: those that these mount. None: all."""
    names = read.caller.rights.deployments
    if names is None:
        return None
    templates = [d.spec.template for d in read.all("deployment") if d.name in names]
    templates += [r.spec.template for r in read.all("revision") if r.spec.deployment in names]
    return frozenset(ref.text for template in templates for ref in mounted(template))


def _sees_version(version: DatasetVersion, read: ReadContext) -> bool:
    visible = read.once("visible versions", lambda: _visible(read))
    return visible is None or version.name in visible


def _sees(dataset: DatasetResource, read: ReadContext) -> bool:
    visible = read.once("visible versions", lambda: _visible(read))
    return visible is None or any(name.partition("@")[0] == dataset.name for name in visible)


def _view(dataset: DatasetResource, read: ReadContext) -> DatasetView:
    versions = {
        number: version
        for number, version in versions_of(read.context.snapshot, dataset.workspace, dataset.name).items()
        if _sees_version(version, read)
    }
    latest = max(versions, default=None)
    return DatasetView(
        **dict(dataset),
        versions=len(versions),
        latest=latest,
        size_bytes=0 if latest is None else versions[latest].spec.size_bytes,
        labels={label: number for label, number in dataset.status.labels.items() if number in versions},
    )


def _version_view(version: DatasetVersion, read: ReadContext) -> DatasetVersionView:
    snapshot, spec = read.context.snapshot, version.spec
    numbers = versions_of(snapshot, version.workspace, spec.dataset)
    limited = read.caller.rights.deployments is not None
    return DatasetVersionView(
        **dict(version),
        labels=labels_of(snapshot.find("dataset", version.workspace, spec.dataset), spec.number, numbers),
        used_by=[] if limited else _uses(read).get(version.name, []),
        made=[] if limited else _made(read).get(version.name, []),
    )


def _made(read: ReadContext) -> dict[str, list[str]]:
    """Version -> the versions that were made from it."""

    def found() -> dict[str, list[str]]:
        made: dict[str, list[str]] = {}
        for version in read.all("dataset-version"):
            for name in version.spec.origin.inputs:
                made.setdefault(name, []).append(version.name)
        return made

    return read.once("versions made", found)


collection = Collection(kind=KINDS["dataset"], sees=_sees, view=_view, special=frozenset({Verb.DELETE}))
versions_collection = Collection(
    kind=KINDS["dataset-version"], sees=_sees_version, view=_version_view, special=frozenset({Verb.DELETE})
)


# Pushes


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
    ws: WorkspaceParam, name: DatasetParam, request: Request, context: WithContext, caller: WithCaller
) -> Push:
    """Begin or resume a version: which of its files are missing."""
    _check_whole(caller)
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


async def manifest_read(context: ApiContext, ws: str, digest: str) -> DatasetManifest:
    """A stored manifest. Raises `NotFound`, `Unavailable`."""
    found = context.manifests.find(ws, digest)
    if found is None:
        found = await read_manifest(context.blobs.within(ws), digest)
        context.manifests.add(ws, digest, found)
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
    name: DatasetParam,
    push: PushParam,
    first: FirstParam,
    count: CountParam,
    request: Request,
    context: WithContext,
    caller: WithCaller,
) -> None:
    """Send files of a push: the bytes of `count` files from the `first` on, one after the other."""
    _check_whole(caller)
    files = _some(_pushed(context, ws, push), first, count)
    with context.streams.open(caller.uid):
        try:
            await context.blobs.within(ws).put_files([(f.digest, f.size_bytes) for f in files], request.stream())
        except ClientDisconnect:
            raise RequestTimeout("The request was cut.", hint="Begin the push again: it goes on from there.") from None


@router.put("/{name}/pushes/{push}/files/{digest}", right=Right.WRITE, status_code=204)
async def put_uploaded_file(
    ws: WorkspaceParam,
    name: DatasetParam,
    push: PushParam,
    digest: Annotated[Digest, PathParameter(description="Digest of a file of the push.")],
    context: WithContext,
    caller: WithCaller,
) -> None:
    """Take a large file of a push from a complete upload: see `/workspaces/{ws}/uploads`."""
    _check_whole(caller)
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
    name: DatasetParam,
    body: VersionRequest,
    response: Response,
    context: WithContext,
    caller: WithCaller,
) -> DatasetVersionView:
    """Create the next version (201) of a push whose files are all there; 200: the latest one has equal files."""
    _check_whole(caller)
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
    return _version_view(version, ReadContext(context, caller, ws))


# Versions


@router.get("/{name}/versions/{ref}", right=Right.READ)
async def get_version(
    ws: WorkspaceParam,
    name: DatasetParam,
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


@versions_router.get("/{name}/manifest", right=Right.READ, response_model=DatasetManifest)
async def get_manifest(
    ws: WorkspaceParam, name: VersionParam, context: WithContext, caller: WithCaller
) -> StreamingResponse:
    """The files of a version, by path."""
    version = _seen(context, caller, ws, name)
    return StreamingResponse(context.blobs.within(ws).read(version.spec.manifest), media_type="application/json")


@versions_router.get(
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
    offset: Annotated[int, Query(ge=0, le=2**50, description="Bytes of the first file that are left out.")] = 0,
) -> StreamingResponse:
    """The bytes of `count` files from the `first` on, one after the other."""
    version = _seen(context, caller, ws, name)
    return await files_streamed(context, ws, version.spec.manifest, first, count, offset)


async def files_streamed(
    context: ApiContext, ws: str, manifest: str, first: int, count: int, offset: int
) -> StreamingResponse:
    """A part of a version's files, as one stream. Raises `Unprocessable` for files that it does not have."""
    space = context.blobs.within(ws)
    files = _some(await manifest_read(context, ws, manifest), first, count)
    if offset > files[0].size_bytes:
        raise Unprocessable("The first file has less bytes than `offset`.")
    return StreamingResponse(
        space.read_files([file.digest for file in files], offset),
        media_type="application/octet-stream",
        headers={"content-length": str(size_of(files) - offset)},
    )


@versions_router.get("/{name}/difference", right=Right.READ)
async def get_difference(
    ws: WorkspaceParam,
    name: VersionParam,
    base: Annotated[VersionName, Query(description="The other version, like 'purchases@3'.")],
    context: WithContext,
    caller: WithCaller,
) -> DatasetDifference:
    """What a version has that `base` has not, by path."""
    older, newer = _seen(context, caller, ws, base), _seen(context, caller, ws, name)
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


@versions_router.post("/{name}/verify", right=Right.WRITE)
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
    _check_whole(caller)
    version, space = _seen(context, caller, ws, name), context.blobs.within(ws)
    files = _some(await manifest_read(context, ws, version.spec.manifest), first, count)
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


@versions_router.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_version(
    ws: WorkspaceParam,
    name: VersionParam,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> None:
    """Delete a version that no deployment, no job and no label needs."""
    _check_whole(caller)

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
            raise _in_use(name, users)
        first: list[Write] = []
        if dataset is not None:  # so that a label which is set now conflicts
            counted = dataset.status.model_copy(update={"removed": dataset.status.removed + 1})
            first = [UpdateStatus(dataset, counted)]
        own = audit.recorded(context, caller, Delete(version), "VersionDeleted", "Deleted.")
        await context.store.write([*first, *own])

    await edits.retry_on_conflict(attempt)


@router.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_dataset(
    ws: WorkspaceParam,
    name: DatasetParam,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> None:
    """Delete a dataset with all its versions and labels, unless a deployment or a job needs one."""
    _check_whole(caller)

    async def attempt() -> None:
        dataset = await edits.get_any(context.store, ("dataset", ws, name))
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        await context.snapshot.at_least(context.store.written)
        rows: list[AnyResource | Unreadable] = [*versions_of(context.snapshot, ws, name).values()]
        rows += [r for r in context.snapshot.unreadable("dataset-version") if _is_of(r, ws, name)]
        used = uses(context.snapshot, ws)
        for version in rows:
            if users := needed_by(used.get(version.name, [])):
                raise _in_use(version.name, users)
        gone = [Delete(version) for version in rows]
        records = RecordAudit([audit.record_of(context, caller, change) for change in gone])
        message = f"Deleted, with {len(gone):,} versions."
        own = audit.recorded(context, caller, Delete(dataset), "DatasetDeleted", message)
        await context.store.write([*gone, records, *own])

    await edits.retry_on_conflict(attempt)


def _is_of(row: Unreadable, ws: str, dataset: str) -> bool:
    return row.workspace == ws and row.name.partition("@")[0] == dataset


def _in_use(version: str, users: list[str]) -> Conflict:
    return Conflict(
        f"Version {version} is needed by {', '.join(users[:5])}.",
        hint="Delete these first, or give them another version.",
    )


# Labels


@router.put("/{name}/labels/{label}", right=Right.WRITE)
async def set_label(
    ws: WorkspaceParam,
    name: DatasetParam,
    label: Annotated[Name, PathParameter()],
    body: LabelRequest,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DatasetView:
    """Set a label, or move it to another version. Deployments that follow it roll out."""
    _check_whole(caller)
    if label == LATEST:
        raise Unprocessable("The label 'latest' moves by itself.", hint="Choose another label.")

    async def attempt() -> DatasetResource:
        await context.snapshot.at_least(context.store.written)
        dataset = await context.store.find("dataset", ws, name)
        if dataset is None:
            raise not_found(collection.kind, ws, name)
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        if body.number not in versions_of(context.snapshot, ws, name):
            raise Unprocessable(
                f"Dataset '{name}' has no version {body.number}.",
                hint=f"Its versions: kaon dataset describe {name}",
            )
        before = dataset.status.labels.get(label)
        labels = {**dataset.status.labels, label: body.number}
        if len(labels) > _LABELS_MAX:
            raise Conflict(f"A dataset has at most {_LABELS_MAX} labels.", hint="Move one that exists.")
        status = dataset.status.model_copy(update={"labels": labels})
        was = "" if before is None else f" It was version {before}."
        message = f"Label '{label}' is version {body.number}.{was}"
        return await audit.write(context, caller, UpdateStatus(dataset, status), "LabelSet", message)

    after = await edits.retry_on_conflict(attempt)
    return await _shown(context, caller, after)


_LABELS_MAX = 100


@router.delete("/{name}/labels/{label}", right=Right.WRITE)
async def delete_label(
    ws: WorkspaceParam,
    name: DatasetParam,
    label: Annotated[Name, PathParameter()],
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DatasetView:
    """Remove a label. Deployments that follow it stay at their version."""
    _check_whole(caller)

    async def attempt() -> DatasetResource:
        dataset = await context.store.find("dataset", ws, name)
        if dataset is None:
            raise not_found(collection.kind, ws, name)
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        labels = {other: number for other, number in dataset.status.labels.items() if other != label}
        status = dataset.status.model_copy(update={"labels": labels})
        message = f"Label '{label}' is removed."
        return await audit.write(context, caller, UpdateStatus(dataset, status), "LabelRemoved", message)

    return await _shown(context, caller, await edits.retry_on_conflict(attempt))


async def _shown(context: ApiContext, caller: Caller, dataset: DatasetResource) -> DatasetView:
    await context.snapshot.at_least(context.store.written)
    return _view(dataset, ReadContext(context, caller, dataset.workspace))


def _seen(context: ApiContext, caller: Caller, ws: str, name: str) -> DatasetVersion:
    """A version that the caller may read. Raises `NotFound`."""
    versions_collection.one(ReadContext(context, caller, ws), name)
    return version_named(context.snapshot, ws, name)


def _some(manifest: DatasetManifest, first: int, count: int) -> tuple[DatasetFile, ...]:
    files = manifest.files[first : first + count]
    if len(files) < count:
        raise Unprocessable(f"The version has {len(manifest.files):,} files, not {first + count:,}.")
    return files


def _check_whole(caller: Caller) -> None:
    if caller.rights.deployments is not None:
        raise Forbidden(
            "This key is for some deployments only and cannot change datasets.",
            hint="Use a key for the whole workspace.",
        )
