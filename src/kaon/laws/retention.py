"""What may be deleted: stored objects that nothing refers to, after their time. Pure.

An artifact is referred to by the spec of a deployment, by its shadow, by a revision of the history, and by a cloud's
plan, whose agents may still fetch it. An unreadable row of these may refer to any artifact: then none that it could
mean is deleted. The time of an artifact begins when it was last uploaded or deployed, so that one that is deployed soon
after its build stays. The time of bytes without an artifact begins when they were written.

A key may be deleted some time after its end, except those of the platform (an admin's key that was revoked would be
made again at the next start) and those that own a deployment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kaon.laws.rights import line
from kaon.types.deployment import templates_of
from kaon.types.resource import Artifact, Deployment, JobResource, Key, PlanPartResource, PlanResource, Revision

DAY_S = 86_400.0
BLOBS_S = 3600.0
"""How long bytes without an artifact stay, seconds: longer than an upload takes from its bytes to its row."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long objects stay that nothing refers to, seconds."""

    artifacts_s: float = 7 * DAY_S
    events_s: float = 30 * DAY_S
    gone_s: float = 7 * DAY_S
    """Events of deleted resources."""
    keys_s: float = 30 * DAY_S
    """Keys after their end."""
    jobs_s: float = 30 * DAY_S
    """Jobs after their end."""
    jobs: int = 10_000
    """Ended jobs of a workspace; the oldest go first."""
    job_bytes: int = 256 * 2**20
    """Results of the ended jobs of a workspace, in bytes."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes."""

    digest: str
    size_bytes: int
    written_at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """All stored objects that may be deleted, or refer to one."""

    artifacts: Sequence[Artifact] = ()
    deployments: Sequence[Deployment] = ()
    jobs: Sequence[JobResource] = ()
    revisions: Sequence[Revision] = ()
    plans: Sequence[PlanResource] = ()
    plan_parts: Sequence[PlanPartResource] = ()
    keys: Sequence[Key] = ()
    blobs: Sequence[Blob] = ()
    unreadable: Sequence[tuple[str, str, str]] = ()
    """(Kind, workspace, name) of unreadable rows."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """The objects that may be deleted, oldest first."""

    artifacts: tuple[Artifact, ...] = ()
    blobs: tuple[Blob, ...] = ()
    keys: tuple[Key, ...] = ()
    jobs: tuple[JobResource, ...] = ()


def may_go(stored: Stored, keep: Keep, now: float) -> Garbage:
    """The objects that nothing refers to at `now`, epoch seconds, and whose time is over."""
    used, closed = _used(stored), {workspace for kind, workspace, _ in stored.unreadable if kind in _REFERRING}
    named = {a.spec.digest for a in stored.artifacts} | {n for kind, _, n in stored.unreadable if kind == "artifact"}
    plans_readable = all(kind not in ("plan", "plan_part") for kind, _, _ in stored.unreadable)
    unused = (a for a in stored.artifacts if (a.workspace, a.spec.digest) not in used and a.workspace not in closed)
    return Garbage(
        artifacts=tuple(
            sorted((a for a in unused if plans_readable and touched_at(a) <= now - keep.artifacts_s), key=_age)
        ),
        blobs=tuple(
            sorted(
                (blob for blob in stored.blobs if blob.digest not in named and blob.written_at <= now - BLOBS_S),
                key=lambda blob: (blob.written_at, blob.digest),
            )
        ),
        keys=_ended(stored, keep, now),
        jobs=_ended_jobs(stored.jobs, keep, now),
    )


def _ended_jobs(jobs: Sequence[JobResource], keep: Keep, now: float) -> tuple[JobResource, ...]:
    """Jobs that ended long ago, or are too many in their workspace, the oldest first."""
    ended = sorted((j for j in jobs if j.status.state.ended), key=lambda j: (-(j.status.ended_at or 0.0), j.uid))
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    gone = []
    for job in ended:
        counts[job.workspace] += 1
        sizes[job.workspace] += job.status.result_bytes
        old = (job.status.ended_at or 0.0) <= now - keep.jobs_s
        if old or counts[job.workspace] > keep.jobs or sizes[job.workspace] > keep.job_bytes:
            gone.append(job)
    return tuple(reversed(gone))


_REFERRING = ("deployment", "revision", "job")


def touched_at(artifact: Artifact) -> float:
    """When an artifact was last uploaded or deployed, epoch seconds."""
    return max(artifact.created_at, artifact.status.used_at)


def _age(artifact: Artifact) -> tuple[float, str, str]:
    return touched_at(artifact), artifact.workspace, artifact.name


def _used(stored: Stored) -> set[tuple[str, str]]:
    """(Workspace, digest) of each artifact that is referred to."""
    specs = ((d.workspace, t.artifact) for d in stored.deployments for t in templates_of(d.spec))
    frozen = ((r.workspace, r.spec.template.artifact) for r in stored.revisions)
    parts = [row.spec.part for row in stored.plan_parts]
    parts += [part for row in stored.plans if row.spec.plan for part in row.spec.plan.parts.values()]
    planned = ((r.workspace, r.artifact) for p in parts for r in (*p.replicas, *((p.standby,) if p.standby else ())))
    jobs = ((j.workspace, j.spec.artifact) for j in stored.jobs if not j.status.state.ended)
    return {*specs, *frozen, *planned, *jobs}


def _ended(stored: Stored, keep: Keep, now: float) -> tuple[Key, ...]:
    by_uid = {key.uid: key for key in stored.keys}
    if any(kind in ("deployment", "key") for kind, _, _ in stored.unreadable):
        return ()
    owners = (by_uid[d.spec.owner_uid] for d in stored.deployments if d.spec.owner_uid in by_uid)
    kept = {key.uid for owner in owners for key in line(owner, by_uid)}
    ends = ((key, _end(key, by_uid)) for key in stored.keys if key.spec.owner_uid and key.uid not in kept)
    over = [(at, key.uid, key) for key, at in ends if at is not None and at <= now - keep.keys_s]
    return tuple(key for *_, key in sorted(over, key=lambda one: one[:2]))


def _end(key: Key, keys: Mapping[str, Key]) -> float | None:
    """When a key ends, by itself or with a key that made it; None: it does not."""
    above = line(key, keys)
    ends: list[float] = [at for one in above for at in _own_ends(one)]
    if above[-1].spec.owner_uid not in ("", *keys):  # the key that made it was deleted
        ends.append(key.updated_at)
    return min(ends, default=None)


def _own_ends(key: Key) -> Iterable[float]:
    return (at for at in (key.status.revoked_at, key.spec.expires_at) if at is not None)
