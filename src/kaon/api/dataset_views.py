"""What keys see of datasets and versions, and the files of one: what the route modules of datasets share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path as PathParameter
from fastapi import Query
from fastapi.responses import StreamingResponse

from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.api.problems import Unprocessable
from kaon.api.views import (
    DatasetVersionView,
    DatasetView,
)
from kaon.datasets.versions import (
    labels_of,
    mounted,
    read_manifest,
    uses,
    version_named,
    versions_of,
)
from kaon.errors import Conflict, Forbidden
from kaon.laws.datasets import size_of
from kaon.types.dataset import DatasetFile, DatasetManifest
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.kinds.dataset_version import VersionName
from kaon.types.resource import DatasetResource, DatasetVersion

FILES_AT_ONCE = 10_000

VersionParam = Annotated[VersionName, PathParameter(alias="name")]
FirstParam = Annotated[int, Query(ge=0, le=10**7, description="Index of the first file in the manifest.")]
CountParam = Annotated[int, Query(ge=1, le=FILES_AT_ONCE, description="How many files, from the first one on.")]
OffsetParam = Annotated[int, Query(ge=0, le=2**50, description="Bytes of the first file that are left out.")]
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


def dataset_view(dataset: DatasetResource, read: ReadContext) -> DatasetView:
    """A dataset with those of its versions that the caller sees."""
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


def version_view(version: DatasetVersion, read: ReadContext) -> DatasetVersionView:
    """A version with its labels and uses."""
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


collection = Collection(kind=KINDS["dataset"], sees=_sees, view=dataset_view, special=frozenset({Verb.DELETE}))
versions_collection = Collection(
    kind=KINDS["dataset-version"], sees=_sees_version, view=version_view, special=frozenset({Verb.DELETE})
)


async def manifest_read(context: ApiContext, ws: str, digest: str) -> DatasetManifest:
    """A stored manifest. Raises `NotFound`, `Unavailable`."""
    found = context.manifests.find(ws, digest)
    if found is None:
        found = await read_manifest(context.blobs.within(ws), digest)
        context.manifests.add(ws, digest, found)
    return found


async def files_streamed(
    context: ApiContext, ws: str, manifest: str, first: int, count: int, offset: int
) -> StreamingResponse:
    """A part of a version's files, as one stream. Raises `Unprocessable` for files that it does not have."""
    space = context.blobs.within(ws)
    files = some_files(await manifest_read(context, ws, manifest), first, count)
    if offset > files[0].size_bytes:
        raise Unprocessable("The first file has less bytes than `offset`.")
    return StreamingResponse(
        space.read_files([file.digest for file in files], offset),
        media_type="application/octet-stream",
        headers={"content-length": str(size_of(files) - offset)},
    )


def version_seen(context: ApiContext, caller: Caller, ws: str, name: str) -> DatasetVersion:
    """A version that the caller may read. Raises `NotFound`."""
    versions_collection.one(ReadContext(context, caller, ws), name)
    return version_named(context.snapshot, ws, name)


def some_files(manifest: DatasetManifest, first: int, count: int) -> tuple[DatasetFile, ...]:
    """`count` files of a manifest, from the `first` on. Raises `Unprocessable` when it has less."""
    files = manifest.files[first : first + count]
    if len(files) < count:
        raise Unprocessable(f"The version has {len(manifest.files):,} files, not {first + count:,}.")
    return files


def check_whole_workspace(caller: Caller) -> None:
    """Raises `Forbidden` for keys for some deployments: datasets belong to the whole workspace."""
    if caller.rights.deployments is not None:
        raise Forbidden(
            "This key is for some deployments only and cannot change datasets.",
            hint="Use a key for the whole workspace.",
        )


def in_use_by(version: str, users: list[str]) -> Conflict:
    """The refusal to delete a version that something needs."""
    return Conflict(
        f"Version {version} is needed by {', '.join(users[:5])}.",
        hint="Delete these first, or give them another version.",
    )
