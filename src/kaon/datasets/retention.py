"""Deletes versions that `keep` does not cover and nothing refers to, and the bytes that no version names any more.

Bytes stay a day, so that a push can be resumed. What a version names is decided under `deciding` of the workspace's
space, which a push holds while it creates its version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from kaon.clock import Clock
from kaon.datasets.versions import uses, versions_of
from kaon.errors import Conflict, NotFound
from kaon.laws.datasets import expired
from kaon.store.audited import by_controller
from kaon.store.port import Blobs, Store
from kaon.store.snapshot import Snapshot
from kaon.store.writes import Delete, RecordAudit, UpdateStatus
from kaon.types.resource import DatasetResource, DatasetVersion

BLOBS_S = 86_400.0
"""How long bytes stay that no version names."""
NEW_S = 600.0
"""How long a version stays in any case: who has just pushed it may be about to use it."""
_REFERRING = ("deployment", "revision", "job")


@dataclass(frozen=True, slots=True)
class CollectedData:
    """What was deleted."""

    versions: tuple[str, ...] = ()
    """As 'workspace/purchases@3'."""
    blobs: int = 0
    blob_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.versions or self.blobs)


class DatasetCollector:
    """Deletes unused versions and bytes of one store and its blobs."""

    def __init__(self, store: Store, snapshot: Snapshot, blobs: Blobs, clock: Clock) -> None:
        self._store = store
        self._snapshot = snapshot
        self._blobs = blobs
        self._clock = clock

    async def collect(self) -> CollectedData:
        """Delete all that may go now. Raises `Unavailable`."""
        await self._snapshot.at_least(self._store.written)
        versions = [name for dataset in self._snapshot.list("dataset") for name in await self._expire(dataset)]
        blobs = size = 0
        for space in await self._blobs.spaces():
            for blob_bytes in await self._sweep(space):
                blobs, size = blobs + 1, size + blob_bytes
        return CollectedData(tuple(versions), blobs, size)

    async def _expire(self, dataset: DatasetResource) -> list[str]:
        workspace = dataset.workspace
        if any(row.workspace == workspace for kind in _REFERRING for row in self._snapshot.unreadable(kind)):
            return []  # it may need any version
        versions = versions_of(self._snapshot, workspace, dataset.name)
        used = uses(self._snapshot, workspace)
        kept = {number for number, version in versions.items() if version.name in used or self._is_new(version)}
        kept |= set(dataset.status.labels.values())
        gone = expired(versions.keys(), dataset.spec.keep, kept)
        return [f"{workspace}/{versions[n].name}" for n in gone if await self._deleted(dataset.name, versions[n])]

    def _is_new(self, version: DatasetVersion) -> bool:
        return max(version.created_at, version.status.used_at) > self._clock.now() - NEW_S

    async def _deleted(self, name: str, version: DatasetVersion) -> bool:
        change = Delete(version)
        record = by_controller(change, at=self._clock.now(), verb="delete", controller="collector")
        try:
            dataset = await self._store.get("dataset", version.workspace, name)
            counted = dataset.status.model_copy(update={"removed": dataset.status.removed + 1})
            if version.spec.number in dataset.status.labels.values():
                return False
            await self._store.write([UpdateStatus(dataset, counted), change, RecordAudit([record])])
        except (Conflict, NotFound):  # used, labelled or deleted meanwhile
            return False
        return True

    async def _sweep(self, workspace: str) -> list[int]:
        """Delete bytes of a workspace that no version names; their sizes."""
        space = self._blobs.within(workspace)
        old = [b for b in await space.list_all() if b.written_at <= self._clock.now() - BLOBS_S]
        if not old or any(row.workspace == workspace for row in self._snapshot.unreadable("dataset-version")):
            return []
        await self._snapshot.at_least(self._store.written)
        known = self._manifests(workspace)
        named = await self._named(space, known)
        gone = []
        async with space.deciding:
            await self._snapshot.at_least(self._store.written)
            named |= await self._named(space, self._manifests(workspace) - known)
            for blob in old:
                if blob.digest not in named:
                    await space.delete(blob.digest)
                    gone.append(blob.size_bytes)
        return gone

    def _manifests(self, workspace: str) -> set[str]:
        return {version.spec.manifest for version in self._snapshot.list("dataset-version", workspace)}

    async def _named(self, space: Blobs, manifests: Iterable[str]) -> set[str]:
        """The digests that manifests name, and their own. Raises `Unavailable` for one that cannot be read."""
        found = set()
        for manifest in manifests:
            found.add(manifest)
            try:
                data = b"".join([chunk async for chunk in space.read(manifest)])
            except NotFound:  # its version is of no use, and names nothing
                continue
            found |= await asyncio.to_thread(_digests, data)
        return found


def _digests(manifest: bytes) -> set[str]:
    return {str(file["digest"]) for file in json.loads(manifest)["files"]}
