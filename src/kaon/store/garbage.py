"""Deletes unused data in batches, as `kaon.laws.retention` decides.

A deployment may be made at the same moment. So the objects are read first, then the references to them; a new reference
to an artifact writes to the artifact's row first, so that the deletion of the row as it was read fails. Bytes are
deleted under `Blobs.deciding`, which is also held while an artifact of them is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from kaon.clock import Clock
from kaon.errors import Conflict, NotFound
from kaon.laws.retention import Garbage, Keep, Stored, may_go, touched_at
from kaon.settings import Settings
from kaon.store.audited import by_controller
from kaon.store.port import AnyResource, Blobs, Store
from kaon.store.records import ROWS_AT_ONCE
from kaon.store.uploads import Uploads
from kaon.store.writes import Delete, RecordAudit, Write
from kaon.types.garbage import Collected, UnusedArtifact
from kaon.types.resource import Unreadable

Row = TypeVar("Row", bound=AnyResource | Unreadable)

AT_ONCE = 200
"""Artifacts, files and keys that are deleted at once, of each."""


def keep_of(settings: Settings) -> Keep:
    """Retention times of the platform's settings."""
    return Keep(
        artifacts_s=settings.keep_artifacts_s,
        events_s=settings.keep_events_s,
        gone_s=settings.keep_gone_s,
        keys_s=settings.keep_keys_s,
        jobs_s=settings.keep_jobs_s,
        jobs=settings.keep_jobs,
        job_bytes=settings.keep_job_bytes,
    )


class Collector:
    """Finds and deletes unused data of one store and its blobs."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, keep: Keep, uploads: Uploads | None = None) -> None:
        self._store = store
        self._blobs = blobs
        self._uploads = uploads
        self._clock = clock
        self._keep = keep

    async def found(self) -> Collected:
        """Everything that can be deleted; deletes nothing."""
        garbage = await self._garbage()
        uploads = await self._uploads.expired() if self._uploads else []
        return _collected(garbage, uploads, await self._store.outdated(self._keep))

    async def collect(self) -> Collected:
        """Delete one batch of unused data; returns what was deleted."""
        garbage = await self._garbage()
        some = Garbage(
            garbage.artifacts[:AT_ONCE], garbage.blobs[:AT_ONCE], garbage.keys[:AT_ONCE], garbage.jobs[:AT_ONCE]
        )
        deleted = Garbage(
            artifacts=tuple(await discard(self._store, self._blobs, some.artifacts, self._recorded)),
            blobs=tuple([blob for blob in some.blobs if await self._drop(blob.digest)]),
            keys=tuple([key for key in some.keys if await _deleted(self._store, self._recorded(Delete(key)))]),
            jobs=tuple([job for job in some.jobs if await _deleted(self._store, self._recorded(Delete(job)))]),
        )
        rows = await self._store.sweep(self._keep)
        more = some != garbage or any(count >= ROWS_AT_ONCE for count in rows.values())
        uploads = await self._uploads.collect() if self._uploads else []
        return _collected(deleted, uploads, rows).model_copy(update={"more": more})

    def _recorded(self, change: Delete) -> list[Write]:
        record = by_controller(change, at=self._clock.now(), verb="delete", controller="collector")
        return [change, RecordAudit([record])]

    async def _garbage(self) -> Garbage:
        unreadable: list[Unreadable] = []
        blobs = await self._blobs.list_all()
        kinds = ("artifact", "deployment", "job", "revision", "plan", "plan_part", "key")
        artifacts, deployments, jobs, revisions, plans, parts, keys = [
            await self._store.list_all(kind, unreadable=unreadable) for kind in kinds
        ]
        bad = [(u.kind, u.workspace, u.name) for u in unreadable]
        stored = Stored(artifacts, deployments, jobs, revisions, plans, parts, keys, blobs, bad)
        return may_go(stored, self._keep, self._clock.now())

    async def _drop(self, digest: str) -> bool:
        """Delete bytes, unless an artifact refers to them now."""
        async with self._blobs.deciding:
            if digest in await _named(self._store):
                return False
            await self._blobs.delete(digest)
            return True


async def discard(
    store: Store, blobs: Blobs, artifacts: Iterable[Row], record: Callable[[Delete], list[Write]]
) -> list[Row]:
    """Delete artifacts as they were read, and bytes that no other refers to; returns those that were deleted.

    `record` gives the writes for the deletion of one. One that was written to since stays: it was uploaded again, or is
    used now.
    """
    async with blobs.deciding:
        deleted = [artifact for artifact in artifacts if await _deleted(store, record(Delete(artifact)))]
        if deleted:
            named = await _named(store)
            for digest in {artifact.name for artifact in deleted} - named:
                await blobs.delete(digest)
    return deleted


async def _named(store: Store) -> set[str]:
    """The digests of all artifacts, including unreadable ones."""
    unreadable: list[Unreadable] = []
    there: Sequence[AnyResource] = await store.list_all("artifact", unreadable=unreadable)
    return {artifact.name for artifact in there} | {artifact.name for artifact in unreadable}


async def _deleted(store: Store, writes: list[Write]) -> bool:
    try:
        await store.write(writes)
    except (Conflict, NotFound):
        return False
    return True


def _collected(garbage: Garbage, uploads: list[int], rows: dict[str, int]) -> Collected:
    """`uploads` are the sizes of those that were not continued."""
    return Collected(
        artifacts=tuple(
            UnusedArtifact(
                workspace=a.workspace,
                digest=a.spec.digest,
                service=a.spec.manifest.service.name,
                size_bytes=a.spec.size_bytes,
                used_at=touched_at(a),
            )
            for a in garbage.artifacts
        ),
        blobs=len(garbage.blobs) + len(uploads),
        blob_bytes=sum(blob.size_bytes for blob in garbage.blobs) + sum(uploads),
        keys=tuple(f"{key.workspace}/{key.name}" for key in garbage.keys),
        jobs=len(garbage.jobs),
        rows=rows,
    )
