"""`/workspaces/{ws}/artifacts`: builds come in, are checked whole, and only then count."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated

from fastapi import Path as PathParameter
from fastapi import Response
from starlette.requests import Request

from kaon.api.doors import Doors
from kaon.api.gate import unseen_workspace
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Parts, WithCaller, WithParts
from kaon.api.views import ArtifactView, Items
from kaon.errors import Conflict, NotFound, TooLarge
from kaon.sdk.archive import read_manifest
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import templates_of
from kaon.types.key import Right
from kaon.types.model import Digest
from kaon.types.resource import Artifact

UPLOAD_LIMIT_BYTES = 512 * 2**20
_CHUNK_BYTES = 2**18
doors = Doors("/workspaces/{ws}/artifacts", tag="artifacts")


@doors.get("", right=Right.READ)
async def list_artifacts(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> Items[ArtifactView]:
    """The artifacts of a workspace, without their files and OpenAPI documents; ask for one to have them."""
    seen = await _seen(parts, caller, ws)
    found = await parts.store.list_all("artifact", ws)
    return Items(items=[_brief(a) for a in found if seen is None or a.name in seen])


@doors.get("/{digest}", right=Right.READ)
async def get_artifact(
    ws: InWorkspace, digest: Annotated[Digest, PathParameter()], parts: WithParts, caller: WithCaller
) -> ArtifactView:
    """One artifact."""
    seen = await _seen(parts, caller, ws)
    found = await parts.store.find("artifact", ws, digest)
    if found is None or (seen is not None and digest not in seen):
        raise NotFound(f"There is no artifact '{digest}'.", hint="`kaon get artifacts` lists those there are.")
    return ArtifactView(**dict(found))


@doors.post(
    "",
    right=Right.WRITE,
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The artifact's bytes, as `kaon build` makes them; at most 512 MB.",
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_artifact(ws: InWorkspace, request: Request, response: Response, parts: WithParts) -> ArtifactView:
    """Bring an artifact: 201, or 200 when the workspace has it already."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:19]) > UPLOAD_LIMIT_BYTES:
        raise _too_large()
    folder = parts.settings.home / "server"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        await _receive(request, file)
        # The file has no name, so that nothing is left behind whatever happens; it is opened anew by its descriptor.
        manifest = await asyncio.to_thread(read_manifest, Path(f"/proc/self/fd/{file.fileno()}"))
        file.seek(0)
        digest, size = await parts.blobs.put(_chunks(file), UPLOAD_LIMIT_BYTES)
    kept, is_new = await _keep(parts, ws, digest, size, manifest)
    response.status_code = 201 if is_new else 200
    return ArtifactView(**dict(kept))


async def _receive(request: Request, file: IO[bytes]) -> None:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > UPLOAD_LIMIT_BYTES:
            raise _too_large()
        await asyncio.to_thread(file.write, chunk)
    file.flush()


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


async def _keep(parts: Parts, ws: str, digest: str, size: int, manifest: Manifest) -> tuple[Artifact, bool]:
    if found := await parts.store.find("artifact", ws, digest):
        return found, False
    if await parts.store.find("workspace", "", ws) is None:  # deleted while the bytes came
        raise unseen_workspace(ws)
    spec = ArtifactSpec(digest=digest, size_bytes=size, manifest=manifest)
    try:
        return await parts.store.create("artifact", ws, digest, spec), True
    except Conflict:  # the same bytes came twice at once
        return await parts.store.get("artifact", ws, digest), False


async def _seen(parts: Parts, caller: Caller, ws: str) -> set[str] | None:
    """The artifacts that a key for some deployments sees: those of their revisions. None: all."""
    names = caller.standing.deployments
    if names is None:
        return None
    deployments = await parts.store.list_all("deployment", ws)
    revisions = await parts.store.list_all("revision", ws)
    return {t.artifact for d in deployments if d.name in names for t in templates_of(d.spec)} | {
        r.spec.template.artifact for r in revisions if r.spec.deployment in names
    }


def _brief(artifact: Artifact) -> ArtifactView:
    manifest = artifact.spec.manifest
    service = manifest.service.model_copy(update={"openapi": {}})
    spec = artifact.spec.model_copy(update={"manifest": manifest.model_copy(update={"files": (), "service": service})})
    return ArtifactView(**{**dict(artifact), "spec": spec})


def _too_large() -> TooLarge:
    return TooLarge(
        f"An artifact has at most {UPLOAD_LIMIT_BYTES // 2**20} MB.",
        hint="Leave models and data out of the sources: .gitignore is respected.",
    )
