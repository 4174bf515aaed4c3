"""Versions of datasets in the store: what makes one, what it is called, what needs it.

The bytes of a workspace's datasets are a space of their own in the blobs, so that knowing a digest gives nobody the
bytes of another workspace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from kaon.errors import Conflict, InvalidInput, NotFound, Unavailable
from kaon.laws.datasets import check_files, reference, resolved, size_of
from kaon.store.port import AnyResource, Blobs
from kaon.store.snapshot import Snapshot
from kaon.store.writes import Create, UpdateStatus
from kaon.types.dataset import (
    DatasetFile,
    DatasetManifest,
    DatasetMount,
    DatasetOrigin,
    DatasetSpec,
    DatasetStatus,
    DatasetVersionRef,
    DatasetVersionSpec,
)
from kaon.types.deployment import Template, in_use, templates_of
from kaon.types.model import canonical_json

MANIFEST_BYTES_MAX = 2**28
"""Limit of a manifest as JSON: a million files with paths of usual length."""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that does not exist yet, and the writes that make it, for one transaction."""

    ref: DatasetVersionRef
    writes: tuple[Create | UpdateStatus, ...]
    """The last one creates the version. `Conflict`: another version of the dataset was made; begin anew."""


def new_version(
    snapshot: Snapshot,
    workspace: str,
    dataset: str,
    manifest: DatasetManifest,
    digest: str,
    *,
    created_by: str,
    origin: DatasetOrigin | None = None,
) -> NewVersion:
    """The next version of a dataset, which is created when it is missing. `digest` is what `keep_manifest` returned."""
    existing = snapshot.find("dataset", workspace, dataset)
    number = 1 if existing is None else existing.status.last + 1
    spec = DatasetVersionSpec(
        dataset=dataset,
        number=number,
        manifest=digest,
        files=len(manifest.files),
        size_bytes=size_of(manifest.files),
        origin=origin or DatasetOrigin(),
        created_by=created_by,
    )
    first: Create | UpdateStatus
    if existing is None:
        first = Create("dataset", workspace, dataset, DatasetSpec(), DatasetStatus(last=number))
    else:
        first = UpdateStatus(existing, existing.status.model_copy(update={"last": number}))
    return NewVersion(spec.ref, (first, Create("dataset-version", workspace, spec.ref.text, spec)))


async def keep_manifest(blobs: Blobs, manifest: DatasetManifest) -> str:
    """Store a manifest whose files are all there, and return its digest. `blobs`: the workspace's space.

    Raises `InvalidInput` for an invalid one, `Conflict` when files are missing. Hold `blobs.deciding` until the version
    is written: what no version names is collected.
    """
    check_files(manifest.files)
    if missing := await blobs.missing([file.digest for file in manifest.files]):
        raise Conflict(f"{len(missing):,} files of the version have not been uploaded.", hint="Upload them first.")
    digest, _ = await blobs.put(_whole(canonical_json(manifest)), MANIFEST_BYTES_MAX)
    return digest


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def read_manifest(blobs: Blobs, digest: str) -> DatasetManifest:
    """The manifest of that digest in a workspace's space. Raises `NotFound`, `Unavailable`."""
    content = b"".join([chunk async for chunk in blobs.read(digest)])
    try:
        return DatasetManifest.model_validate_json(content)
    except ValidationError:
        raise Unavailable(f"The manifest {digest} is stored in a form that this server cannot read.") from None


def versions_of(snapshot: Snapshot, workspace: str, dataset: str) -> dict[int, AnyResource]:
    """The versions of a dataset by number."""
    return {v.spec.number: v for v in snapshot.of_dataset(workspace, dataset)}


def resolve(snapshot: Snapshot, workspace: str, text: str) -> DatasetVersionRef:
    """The version that a reference means now. Raises `InvalidInput` for one that means none."""
    wanted = reference(text)
    dataset = snapshot.find("dataset", workspace, wanted.dataset)
    if dataset is None:
        raise InvalidInput(
            f"There is no dataset '{wanted.dataset}' in workspace '{workspace}'.",
            hint=f"Make it: kaon dataset push {wanted.dataset} FOLDER. List them: kaon dataset ls",
        )
    versions = versions_of(snapshot, workspace, wanted.dataset)
    found: DatasetVersionRef = versions[resolved(wanted, dataset.status.labels, versions.keys())].spec.ref
    return found


def version_named(snapshot: Snapshot, workspace: str, name: str) -> AnyResource:
    """The version of that name, like 'purchases@3'. Raises `NotFound`."""
    found = snapshot.find("dataset-version", workspace, name)
    if found is None:
        raise NotFound(f"There is no version '{name[:80]}'.", hint="List them: kaon get dataset-versions")
    return found


def labels_of(dataset: AnyResource | None, number: int, numbers: Iterable[int]) -> list[str]:
    """The labels of a version, `latest` first."""
    own = [] if dataset is None else sorted(label for label, n in dataset.status.labels.items() if n == number)
    return (["latest"] if number == max(numbers, default=0) else []) + own


def uses(snapshot: Snapshot, workspace: str) -> dict[str, list[str]]:
    """Version, like 'purchases@3' -> what refers to it: 'deployment NAME', 'job NAME' that has not ended, or
    'revision NAME' of one that does not run, which only going back to it needs."""
    found: dict[str, list[str]] = {}
    for user, refs in _users(snapshot, workspace):
        for ref in refs:
            users = found.setdefault(ref.text, [])
            if user not in users:
                users.append(user)
    return found


def _users(snapshot: Snapshot, workspace: str) -> Iterator[tuple[str, Sequence[DatasetVersionRef]]]:
    running = set()
    for deployment in snapshot.list("deployment", workspace):
        running |= {f"{deployment.name}-{number}" for number in in_use(deployment.status.rollout)}
        yield f"deployment {deployment.name}", [r for t in templates_of(deployment.spec) for r in mounted(t)]
    for revision in snapshot.list("revision", workspace):
        who = f"deployment {revision.spec.deployment}" if revision.name in running else f"revision {revision.name}"
        yield who, mounted(revision.spec.template)
    for job in snapshot.list("job", workspace):
        if not job.status.state.ended:
            yield f"job {job.name}", list(job.spec.inputs.values())


def mounted(template: Template) -> list[DatasetVersionRef]:
    """The versions that a template mounts."""
    return [mount.version for mount in template.datasets.values() if mount.version is not None]


def with_versions(snapshot: Snapshot, workspace: str, template: Template) -> Template:
    """A template whose mounts have the versions that they mean now. Raises `InvalidInput`."""
    if not template.datasets:
        return template
    found = {
        name: DatasetMount(ref=mount.ref, version=resolve(snapshot, workspace, mount.ref))
        for name, mount in template.datasets.items()
    }
    return template if found == template.datasets else template.model_copy(update={"datasets": found})


def pinned(template: Template) -> Template:
    """A template whose mounts stay at their versions, wherever their labels move."""
    if not template.datasets:
        return template
    found = {
        name: mount if mount.version is None else DatasetMount(ref=mount.version.text, version=mount.version)
        for name, mount in template.datasets.items()
    }
    return template.model_copy(update={"datasets": found})


def needed_by(users: Iterable[str]) -> list[str]:
    """Of these, the ones that do not work without the version."""
    return [user for user in users if not user.startswith("revision ")]


def distinct(files: Iterable[DatasetFile]) -> list[DatasetFile]:
    """One file of each digest, in order."""
    return list({file.digest: file for file in reversed(tuple(files))}.values())[::-1]
