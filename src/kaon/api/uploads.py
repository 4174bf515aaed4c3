"""`/workspaces/{ws}/uploads`: bytes by their sha256, sent in any number of requests and continued where one was cut.

The client knows the sha256 and the size of its file before:

    GET /workspaces/{ws}/uploads/sha256:HEX                      how many bytes have arrived: `received_bytes`
    PUT /workspaces/{ws}/uploads/sha256:HEX?size=N&offset=M      the bytes from M, all or some; answers as GET does

A first request may be a PUT at offset 0, and a PUT at 0 begins anew. A PUT at any other offset than `received_bytes`
is a 409. What arrives stays, also when the connection is cut, until `KAON_KEEP_UPLOADS_S` after the last byte. With the
last byte the digest is checked: bytes with another digest are deleted, and the answer is a 400. A PUT of what is
complete is a 200. The edge limits bodies with a length to 100 MB, so clients send parts.

Bounds, each by a setting: the number of a workspace's unused uploads, their bytes together, their age. At a bound,
those that got nothing for an hour make room, then a PUT is a 409 `quota-reached`. A file that does not fit on the
server's disk is a 507 `disk-full`, before its bytes are read.

A complete upload is used by another route of the same workspace, such as `PUT /artifacts/sha256:HEX`, which has no
body. No workspace sees or uses uploads of another one, although both may know the digest; a key for some deployments
only has uploads and bounds of its own. For such a route:

    async with uploaded(context, caller, ws, digest) as file:  # NotFound unless it is complete
        ...                                                # check what is in the file: it cannot change
        await context.blobs.adopt(file, digest)            # no copy: a hard link
        async with context.blobs.deciding:                 # the collector deletes blobs that no row names
            ...                                            # write the row that names the digest

The upload is deleted when the block ends without an exception; else it stays, and the request can be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Query
from starlette.requests import ClientDisconnect, Request

from kaon.api.authorizer import workspace_not_found
from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.router import AuthorizedRouter
from kaon.clock import Clock
from kaon.errors import RequestTimeout
from kaon.settings import Settings
from kaon.store.uploads import UploadBounds, Uploads, UploadState
from kaon.types.key import Right
from kaon.types.model import Digest
from kaon.types.upload import UploadView

router = AuthorizedRouter("/workspaces/{ws}/uploads", tag="uploads")
DigestParam = Annotated[Digest, PathParameter(description="The sha256 of all its bytes, as sha256:HEX.")]


@router.get("/{digest}", right=Right.WRITE)
async def get_upload(ws: WorkspaceParam, digest: DigestParam, context: WithContext, caller: WithCaller) -> UploadView:
    """How far an upload is; nothing received when there is none."""
    return _view(digest, await context.uploads.state(owner_of(context, caller, ws), digest))


@router.put(
    "/{digest}",
    right=Right.WRITE,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The file's bytes from `offset` on, all or some of them.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_upload(
    ws: WorkspaceParam,
    digest: DigestParam,
    request: Request,
    context: WithContext,
    caller: WithCaller,
    size: Annotated[int, Query(ge=0, le=2**50, description="Bytes of the whole file.")],
    offset: Annotated[int, Query(ge=0, le=2**50, description="Where the body's bytes belong in the file.")] = 0,
) -> UploadView:
    """Send bytes of a file: all of them, or some and the rest in further requests. Interrupted ones are continued."""
    owner = owner_of(context, caller, ws)
    with context.streams.open(caller.uid):
        try:
            state = await context.uploads.append(owner, digest, request.stream(), offset=offset, size_bytes=size)
        except ClientDisconnect:
            raise RequestTimeout("The request was cut.", hint="Continue the upload where it stopped.") from None
    return _view(digest, state)


@asynccontextmanager
async def uploaded(context: ApiContext, caller: Caller, ws: str, digest: str) -> AsyncIterator[Path]:
    """The file of a complete upload of a workspace; see the module. Raises `NotFound`."""
    async with context.uploads.use(owner_of(context, caller, ws), digest) as file:
        yield file


def owner_of(context: ApiContext, caller: Caller, ws: str) -> str:
    """The owner of a caller's uploads: the workspace, or a key that may see only some deployments of it.

    It is made of uids: a workspace that is deleted and made again does not get the uploads of the earlier one.
    """
    workspace = context.snapshot.find("workspace", "", ws)
    if workspace is None:  # deleted since the request was authorized
        raise workspace_not_found(ws)
    return str(workspace.uid) if caller.rights.deployments is None else f"{workspace.uid}-{caller.uid}"


def uploads_of(settings: Settings, clock: Clock) -> Uploads:
    """The uploads of a server with these settings. A process has one such object."""
    bounds = UploadBounds(settings.most_uploads, settings.most_upload_bytes, settings.keep_uploads_s)
    return Uploads(settings.home / "server" / "uploads", bounds, clock)


def _view(digest: str, state: UploadState) -> UploadView:
    return UploadView(digest=digest, received_bytes=state.received_bytes, is_complete=state.is_complete)
