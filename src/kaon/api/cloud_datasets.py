"""`/clouds/{cloud}/datasets`: versions for agents, only those that the cloud's current plan names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from fastapi.responses import StreamingResponse

from kaon.api.context import ApiContext, CloudParam, WithContext
from kaon.api.dataset_views import BYTES_ANSWER, CountParam, FirstParam, OffsetParam, files_streamed
from kaon.api.router import AuthorizedRouter
from kaon.errors import NotFound
from kaon.types.dataset import DatasetManifest
from kaon.types.key import Right
from kaon.types.model import Digest

router = AuthorizedRouter("/clouds", tag="clouds")
ManifestParam = Annotated[Digest, Path(alias="manifest", description="Digest of the version's manifest.")]


@router.get("/{cloud}/datasets/{manifest}", right=Right.AGENT, response_model=DatasetManifest)
async def get_planned_manifest(cloud: CloudParam, manifest: ManifestParam, context: WithContext) -> StreamingResponse:
    """The files of a version that the plan names."""
    space = context.blobs.within(_workspace(context, cloud, manifest))
    if not await space.has(manifest):
        raise _no_version(manifest)
    return StreamingResponse(space.read(manifest), media_type="application/json")


@router.get(
    "/{cloud}/datasets/{manifest}/files",
    right=Right.AGENT,
    response_class=StreamingResponse,
    responses=BYTES_ANSWER,
)
async def get_planned_files(
    cloud: CloudParam,
    manifest: ManifestParam,
    first: FirstParam,
    count: CountParam,
    context: WithContext,
    offset: OffsetParam = 0,
) -> StreamingResponse:
    """The bytes of `count` files of a version that the plan names, from the `first` on, one after the other."""
    return await files_streamed(context, _workspace(context, cloud, manifest), manifest, first, count, offset)


def _workspace(context: ApiContext, cloud: str, manifest: str) -> str:
    """The workspace of a version that the plan names. Raises `NotFound`."""
    named = context.plans.of(cloud)
    if named is not None:
        for replica in (*named.plan.replicas, *named.plan.standby):
            if any(use.version.manifest == manifest for use in replica.datasets):
                return replica.workspace
        for attempt in named.plan.attempts:
            if any(ref.manifest == manifest for ref in attempt.call.inputs.values()):
                return attempt.replica.workspace
    raise _no_version(manifest)


def _no_version(manifest: str) -> NotFound:
    return NotFound(f"There is no version '{manifest}' for this cloud.")
