"""`/workspaces/{ws}/artifacts`: each is checked as a whole before it is stored."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import IO

from fastapi import Response
from starlette.requests import Request

from kaon.api import audit, edits
from kaon.api.authorizer import workspace_not_found
from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.quotas import check_bytes, check_count
from kaon.api.router import AuthorizedRouter
from kaon.api.uploads import DigestParam, uploaded
from kaon.api.views import ArtifactView
from kaon.build.archive import head_bytes, read_head, read_manifest
from kaon.build.limits import ArtifactLimits, limits_of
from kaon.errors import Conflict, DiskFull, Forbidden, InvalidInput, NotFound, TooLarge, Unavailable, UnreadableRow
from kaon.store.garbage import discard
from kaon.store.writes import Create, Delete, RecordAudit, RecordEvents, Write
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import templates_of
from kaon.types.etag import etag
from kaon.types.event import Event
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Artifact, Deployment, Revision, Unreadable

_CHUNK_BYTES = 2**18
_PICKLES_SHOWN = 10
router = AuthorizedRouter("/workspaces/{ws}/artifacts", tag="artifacts")


def _sees(artifact: Artifact, read: ReadContext) -> bool:
    visible = read.once("artifacts", lambda: _visible(read.caller, read.all("deployment"), read.all("revision")))
    return visible is None or artifact.name in visible


collection = Collection(
    kind=KINDS["artifact"],
    sees=_sees,
    view=lambda artifact, _: _view(artifact, _brief(artifact.spec.manifest)),
    special=frozenset({Verb.GET, Verb.DELETE}),
    parameter="digest",
)
"""Lists leave out the files and the OpenAPI document of each artifact; a GET of one has them."""


@router.get("/{digest}", right=Right.READ)
async def get_artifact(
    ws: WorkspaceParam,
    digest: DigestParam,
    response: Response,
    context: WithContext,
    caller: WithCaller,
) -> ArtifactView:
    """One artifact."""
    visible = await _visible_digests(context, caller, ws)
    found = await context.store.find("artifact", ws, digest)
    if found is None or (visible is not None and digest not in visible):
        raise NotFound(f"There is no artifact '{digest}'.", hint="List them: kaon get artifacts")
    response.headers["etag"] = etag(found.uid, found.generation)
    return _view(found, await _whole(context, found))


@router.delete("/{digest}", right=Right.WRITE, status_code=204)
async def delete_artifact(ws: WorkspaceParam, digest: DigestParam, context: WithContext, caller: WithCaller) -> None:
    """Delete an artifact that no deployment and no revision uses."""
    visible = await _visible_digests(context, caller, ws)
    if visible is not None and digest in visible:
        raise Forbidden("This key is for some deployments only.", hint="Use a key for the whole workspace.")

    async def attempt() -> None:
        artifact: Artifact | Unreadable | None
        try:
            artifact = None if visible is not None else await context.store.find("artifact", ws, digest)
        except UnreadableRow as error:
            artifact = error.row
        if artifact is None:
            raise NotFound(f"There is no artifact '{digest}'.", hint="List them: kaon get artifacts")
        if users := await _users(context, ws, digest):
            raise Conflict(
                f"Artifact {digest[:19]} is used by {', '.join(users[:5])}.",
                hint="Delete them first, or wait until their old revisions are collected.",
            )
        if not await discard(context.store, context.blobs, [artifact], recorded):
            raise Conflict(f"Artifact {digest[:19]} is being deployed now.", hint="See: kaon ps")

    def recorded(change: Delete) -> list[Write]:
        return audit.recorded(context, caller, change, "ArtifactDeleted", "Deleted.")

    await edits.retry_on_conflict(attempt)


@router.put("/{digest}", right=Right.WRITE, status_code=201)
async def upload_artifact_by_digest(
    ws: WorkspaceParam,
    digest: DigestParam,
    response: Response,
    context: WithContext,
    caller: WithCaller,
) -> ArtifactView:
    """Make an artifact of a complete upload: 201, or 200 when the workspace has it already, without an upload."""
    visible = await _visible_digests(context, caller, ws)
    existing = await context.store.find("artifact", ws, digest) if visible is None or digest in visible else None
    if existing is not None and await _is_intact(context, digest):
        response.status_code = 200
        touched = await edits.touch_artifact(context.store, ws, digest, context.clock.now())
        return _view(touched, await _whole(context, touched))
    async with uploaded(context, caller, ws, digest) as file:
        manifest = await asyncio.to_thread(read_manifest, file, limits_of(context.settings), digest=digest)
        size = file.stat().st_size
        await _check_quotas(context, ws, digest, size)
        await context.blobs.adopt(file, digest)
        kept, is_new = await _keep(context, caller, ws, digest, size, manifest)
    response.status_code = 201 if is_new else 200
    return _view(kept, manifest)


@router.post(
    "",
    right=Right.WRITE,
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The artifact's bytes, as `kaon build` makes them. Large ones: see `put_upload`.",
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_artifact(
    ws: WorkspaceParam, request: Request, response: Response, context: WithContext, caller: WithCaller
) -> ArtifactView:
    """Upload an artifact in one request: 201, or 200 when the workspace has it already."""
    limits = limits_of(context.settings)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:19]) > limits.packed_bytes:
        raise _too_large(limits)
    folder = context.settings.home / "server"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with context.streams.open(caller.uid), tempfile.TemporaryFile(dir=folder) as file:
        await _receive(request, file, limits)
        # The file has no name, so that nothing is left behind after a failure; it is opened again by its descriptor.
        manifest = await asyncio.to_thread(read_manifest, Path(f"/proc/self/fd/{file.fileno()}"), limits)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        sha256 = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
        await _check_quotas(context, ws, f"sha256:{sha256.hexdigest()}", size)
        file.seek(0)
        digest, size = await context.blobs.put(_chunks(file), limits.packed_bytes)
    kept, is_new = await _keep(context, caller, ws, digest, size, manifest)
    response.status_code = 201 if is_new else 200
    return _view(kept, manifest)


async def _is_intact(context: ApiContext, digest: str) -> bool:
    """Whether the bytes of a digest are kept undamaged."""
    try:
        async for _ in context.blobs.read(digest):
            pass
    except (NotFound, Unavailable):
        return False
    return True


async def _check_quotas(context: ApiContext, ws: str, digest: str, size_bytes: int) -> None:
    """Raises `QuotaReached` when one more is too many; an artifact that the workspace has may be uploaded again."""
    if await context.store.find("artifact", ws, digest) is None:
        await check_count(context, "artifact", ws)
        await check_bytes(context, ws, size_bytes)


async def _receive(request: Request, file: IO[bytes], limits: ArtifactLimits) -> None:
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.packed_bytes:
                raise _too_large(limits)
            await asyncio.to_thread(file.write, chunk)
        file.flush()
    except OSError as error:
        raise DiskFull(f"The upload cannot be kept: {error.strerror}.", hint="Make room: kaon gc") from None


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


async def _keep(
    context: ApiContext, caller: Caller, ws: str, digest: str, size: int, manifest: Manifest
) -> tuple[Artifact, bool]:
    if await context.store.find("artifact", ws, digest):
        return await edits.touch_artifact(context.store, ws, digest, context.clock.now()), False
    if await context.store.find("workspace", "", ws) is None:  # deleted during the upload
        raise workspace_not_found(ws)
    spec = ArtifactSpec(digest=digest, size_bytes=size, manifest=_brief(manifest))
    async with context.blobs.deciding:
        if not await context.blobs.has(digest):
            raise Unavailable("The artifact was deleted during the upload.", hint="Upload it again.", retry_after_s=1)
        try:
            change = Create("artifact", ws, digest, spec)
            writes = audit.with_record(context, caller, change)
            written = await context.store.write([*writes, *_pickles_noted(context, caller, change, spec)])
            return written[0], True
        except Conflict:  # two uploads of the same bytes
            return await context.store.get("artifact", ws, digest), False


def _pickles_noted(context: ApiContext, caller: Caller, change: Create, spec: ArtifactSpec) -> list[Write]:
    """A record of the verb `allow-pickle`, and an event with the files, for an artifact with pickles."""
    pickles = spec.manifest.pickles
    if not pickles:
        return []
    shown = ", ".join(pickles[:_PICKLES_SHOWN]) + (" ..." if len(pickles) > _PICKLES_SHOWN else "")
    upload = audit.record_of(context, caller, change)
    event = Event(
        at=upload.at,
        workspace=upload.workspace,
        kind="artifact",
        name=spec.digest,
        uid=upload.uid,
        reason="PicklesPacked",
        message=f"The artifact has pickles, and loading one runs the code in it: {shown}. By key '{caller.name}'.",
    )
    return [RecordAudit([upload.model_copy(update={"verb": "allow-pickle"})]), RecordEvents([event])]


async def _users(context: ApiContext, ws: str, digest: str) -> list[str]:
    """The deployments and revisions that use an artifact."""
    deployments = await context.store.list_all("deployment", ws)
    revisions = await context.store.list_all("revision", ws)
    named = [d.name for d in deployments if any(t.artifact == digest for t in templates_of(d.spec))]
    existing = {("", d.name) for d in deployments} | {(d.uid, d.name) for d in deployments}
    named += [
        f"{row.name}, which cannot be read and may use it"
        for kind in ("deployment", "revision")
        for row in context.snapshot.unreadable(kind)
        if row.workspace == ws
    ]
    named += [
        job.name for job in context.snapshot.labelled("job", "artifact", ws, digest) if not job.status.state.ended
    ]
    return named + [
        r.name
        for r in revisions
        if r.spec.template.artifact == digest and (r.spec.deployment_uid, r.spec.deployment) in existing
    ]


async def _whole(context: ApiContext, artifact: Artifact) -> Manifest:
    """The complete manifest, read from the artifact; the stored part of it when the bytes are gone."""
    if artifact.spec.manifest.files:  # stored by an older Kaon
        return artifact.spec.manifest
    head, needed = b"", head_bytes()
    try:
        async for chunk in context.blobs.read(artifact.spec.digest):
            head += chunk
            if len(head) >= needed:
                break
        return await asyncio.to_thread(read_head, head)
    except (NotFound, InvalidInput, TooLarge):
        return artifact.spec.manifest


async def _visible_digests(context: ApiContext, caller: Caller, ws: str) -> set[str] | None:
    """The digests that the key may see: those of its deployments' revisions; None when it may see all."""
    if caller.rights.deployments is None:
        return None
    deployments = await context.store.list_all("deployment", ws)
    return _visible(caller, deployments, await context.store.list_all("revision", ws))


def _visible(caller: Caller, deployments: Iterable[Deployment], revisions: Iterable[Revision]) -> set[str] | None:
    names = caller.rights.deployments
    if names is None:
        return None
    return {t.artifact for d in deployments if d.name in names for t in templates_of(d.spec)} | {
        r.spec.template.artifact for r in revisions if r.spec.deployment in names
    }


def _brief(manifest: Manifest) -> Manifest:
    """The manifest without what planning does not need."""
    service = manifest.service.model_copy(update={"openapi": {}})
    return manifest.model_copy(update={"files": (), "service": service})


def _view(artifact: Artifact, manifest: Manifest) -> ArtifactView:
    return ArtifactView(**{**dict(artifact), "spec": artifact.spec.model_copy(update={"manifest": manifest})})


def _too_large(limits: ArtifactLimits) -> TooLarge:
    return TooLarge(
        f"An artifact may have {limits.packed_bytes:,} bytes.",
        hint="Leave out in .gitignore what the service does not need, or raise KAON_LARGEST_ARTIFACT_BYTES.",
    )
