"""Starts jobs whose turn it is, and follows their attempts; see `kaon.laws.queue` and `kaon.laws.jobs`.

A job's row is the only truth. The queue in memory is made of the rows, and is brought up to date by each change of one;
a crash between any two writes is repaired by the next look. The end of an attempt is written by the API, when its agent
reports it.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.errors import Conflict, NotFound
from kaon.laws import jobs as law
from kaon.laws.queue import Amount, Decision, JobQueue, JobRoom, WaitingJob
from kaon.store.port import Change, Store
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.store.writes import Create, Delete, RecordEvents, UpdateStatus, Write
from kaon.types.cloud import CloudPhase, CloudStatus
from kaon.types.event import Event, EventLevel
from kaon.types.job import JobStatus
from kaon.types.key import KEY_PREFIX, KeySpec, Role, identity_job, job_identity_name, key_hash
from kaon.types.names import DeploymentKey
from kaon.types.place import PlaceHealth
from kaon.types.replica import Phase, ReplicaStatus, WorkloadKind
from kaon.types.resource import Cloud, JobResource, Resource

THE_QUEUE: DeploymentKey = ("", "")
"""The key that stands for the decision which jobs start."""
STARTS_AT_ONCE = 64
"""Jobs that one transaction starts."""
_HINT_LENGTH = len(KEY_PREFIX) + 4
_WAITS_FOR_ROOM = (Phase.NO_CAPACITY, Phase.BUILDING, Phase.INSTALLING)
"""Phases of services' replicas that do not count as used yet, and go before jobs."""


class JobController:
    """The reconciler of jobs; a key is a workspace and a job's name, or `THE_QUEUE`."""

    name = "jobs"

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock,
        snapshot: Snapshot,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._snapshot = snapshot
        self._jitter = jitter
        self._queue = JobQueue()
        self._synced = False
        self._reported: dict[str, dict[str, tuple[Phase, str]]] = {}
        """Cloud -> attempt -> what was reported of it last."""
        self._watched_since = clock.now()
        self.decision = Decision()
        """The last decision, for those who ask why a job waits."""

    async def keys(self) -> Collection[DeploymentKey]:
        """The queue, every job with an attempt, and keys of jobs that have ended."""
        await self._snapshot.at_least(self._store.written)
        if not self._synced:
            self._sync(self._snapshot.list("job"))
            self._synced = True
        active = {(job.workspace, job.name) for job in self._snapshot.labelled("job", "active") if job.status.attempt}
        return {THE_QUEUE, *active, *self._keys_without_job()}

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Changed jobs, and those of which a cloud reports something new."""
        found: set[DeploymentKey] = set()
        for change in changes:
            if change.kind == "job":
                key = (change.workspace, change.name)
                self._track(key, change.resource if isinstance(change.resource, Resource) else None)
                found |= {THE_QUEUE, key}
            elif change.kind == "cloud" and (self._queue.running or len(self._queue)):
                found.add(THE_QUEUE)
                found |= self._newly_reported(change.name)
        return found

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Start the jobs whose turn it is, or bring one job's status up to date."""
        await self._snapshot.at_least(self._store.written)
        return await self._decide() if key == THE_QUEUE else await self._follow(key)

    # The queue

    def _sync(self, jobs: Iterable[JobResource]) -> None:
        self._queue = JobQueue()
        for job in jobs:
            self._track((job.workspace, job.name), job)

    def _track(self, key: DeploymentKey, job: JobResource | None) -> None:
        """Bring the queue up to date with a job's row."""
        if job is None or job.status.state.ended:
            self._queue.forget(key)
            return
        spec, attempt = job.spec, job.status.attempt
        demand = Amount.of(spec.resources)
        group = (job.workspace, spec.array) if spec.array and spec.parallel else None
        if attempt is not None:
            self._queue.run(key, attempt.cloud, demand, group)
        elif not job.status.cancelled:
            self._queue.wait(
                WaitingJob(key, demand, spec.priority, job.created_at, job.status.retry_at, group, spec.parallel)
            )

    async def _decide(self) -> Again | None:
        if not len(self._queue):
            self.decision = Decision()
            return None
        now = self._clock.now()
        self.decision = self._queue.decide(self._rooms(), now)
        starts = self.decision.starts
        for first in range(0, len(starts), STARTS_AT_ONCE):
            some = starts[first : first + STARTS_AT_ONCE]
            begun = [begun for start in some if (begun := self._start(start.key, start.cloud, now))]
            try:
                await self._store.write([write for writes in begun for write in writes])
            except (Conflict, NotFound):  # one of them was changed meanwhile
                await self._one_by_one(begun)
        if starts:
            await self._snapshot.at_least(self._store.written)
            for start in starts:
                self._track(start.key, self._snapshot.find("job", *start.key))
        next_at = self.decision.next_at
        return None if next_at is None else Again(max(0.05, next_at - now))

    async def _one_by_one(self, begun: Sequence[Sequence[Write]]) -> None:
        for writes in begun:
            try:
                await self._store.write(writes)
            except (Conflict, NotFound):
                continue  # its change wakes this controller again

    def _start(self, key: DeploymentKey, cloud: str, now: float) -> list[Write] | None:
        """What starts a job's next attempt; None: it must not start any more."""
        job: JobResource | None = self._snapshot.find("job", *key)
        after = law.begun(job, cloud, now) if job is not None else None
        if job is None or after is None:
            self._track(key, job)
            return None
        event = _event(job, "JobStarts", f"Attempt {after.attempts[-1].number} starts in cloud '{cloud}'.", now)
        return [UpdateStatus(job, after), *self._identity(job), RecordEvents([event])]

    def _rooms(self) -> Iterator[JobRoom]:
        for cloud in self._snapshot.list("cloud"):
            status: CloudStatus = cloud.status
            if status.phase is CloudPhase.READY and not cloud.spec.cordoned and status.report is not None:
                replicas = status.report.replicas
                needed, uncounted = self._needed_by_services(replicas), self._uncounted(cloud.name, replicas)
                yield room_of(cloud.name, status.report.place, needed, uncounted, self._queue.used_in(cloud.name))

    def _uncounted(self, cloud: str, replicas: Sequence[ReplicaStatus]) -> Amount:
        """What the attempts have that the place did not count yet when it was observed."""
        counted = {r.id for r in replicas if r.kind is WorkloadKind.JOB and r.phase not in _WAITS_FOR_ROOM}
        found = Amount()
        for job in self._snapshot.labelled("job", "attempts", cloud):
            if job.status.attempts[-1].id not in counted:
                found = found.plus(Amount.of(job.spec.resources))
        return found

    def _needed_by_services(self, replicas: Sequence[ReplicaStatus]) -> Amount:
        """What replicas of services that wait for room there need."""
        needed = Amount()
        for replica in replicas:
            if replica.kind is WorkloadKind.SERVICE and replica.phase in _WAITS_FOR_ROOM:
                revision = self._snapshot.find(
                    "revision", replica.workspace, f"{replica.deployment}-{replica.revision}"
                )
                resources = revision.spec.template.resources if revision is not None else None
                needed = needed.plus(Amount.of(resources) if resources else Amount(1.0))
        return needed

    # One job

    async def _follow(self, key: DeploymentKey) -> Again | None:
        job: JobResource | None = self._snapshot.find("job", *key)
        if job is None or job.status.state.ended:
            await self._forget_identity(key)
            return None
        attempt = job.status.attempt
        if attempt is None:
            return None
        now = self._clock.now()
        cloud: Cloud | None = self._snapshot.find("cloud", "", attempt.cloud)
        lost, lost_at = self._lost(cloud, now)
        if lost and not (job.spec.once and cloud is not None):
            after = law.given_up(job.spec, job.status, lost, now, self._jitter())
            await self._write(job, after, _event(job, "AttemptLost", lost, now, EventLevel.WARNING))
            return None
        after = law.overdue(job.spec, self._as_reported(job, cloud), now)
        await self._write(job, after)
        times = [at for at in (law.due_at(job.spec, after), lost_at) if at is not None and at > now]
        return Again(max(0.05, min(times) - now)) if times else None

    def _as_reported(self, job: JobResource, cloud: Cloud | None) -> JobStatus:
        attempt = job.status.attempt
        report = cloud.status.report if cloud is not None else None
        for replica in report.replicas if report and attempt else ():
            if attempt is not None and replica.id == attempt.id:
                return law.reported(job.status, replica.id, replica.phase, replica.reason, _began(replica))
        return job.status

    def _lost(self, cloud: Cloud | None, now: float) -> tuple[str, float | None]:
        """Why what runs in a cloud is given up, else when it will be if nothing is reported."""
        if cloud is None:
            return "Its cloud was deleted.", None
        if cloud.status.phase is not CloudPhase.LOST:
            return "", None
        at = max(cloud.status.since, cloud.status.seen_at, self._watched_since) + law.LOST_AFTER_S
        reason = f"Cloud '{cloud.name}' has not reported for {law.LOST_AFTER_S:.0f} s."
        return (reason, None) if now >= at else ("", at)

    async def _write(self, job: JobResource, after: JobStatus, event: Event | None = None) -> None:
        if after != job.status:
            await self._store.write([UpdateStatus(job, after), *([RecordEvents([event])] if event else [])])

    def _newly_reported(self, cloud: str) -> set[DeploymentKey]:
        jobs = self._snapshot.labelled("job", "attempts", cloud)
        found: Cloud | None = self._snapshot.find("cloud", "", cloud)
        if found is None or found.status.phase is CloudPhase.LOST:
            self._reported.pop(cloud, None)
            return {(job.workspace, job.name) for job in jobs}
        report = found.status.report
        ids = {job.status.attempts[-1].id: (job.workspace, job.name) for job in jobs}
        now = {r.id: (r.phase, r.reason) for r in (report.replicas if report else ()) if r.id in ids}
        before = self._reported.get(cloud, {})
        self._reported[cloud] = now
        return {ids[id_] for id_, seen in now.items() if before.get(id_) != seen}

    # Keys of jobs

    def _identity(self, job: JobResource) -> list[Write]:
        """What makes a job's own key and the secret with its text, with its first attempt."""
        name = job_identity_name(job.name)
        if not law.has_identity(job.spec):
            return []
        stale = [self._snapshot.find(kind, job.workspace, name) for kind in ("secret", "key")]
        if all(stale) and stale[1] is not None and stale[1].spec.deployment_uid == job.uid:
            return []
        text = KEY_PREFIX + secrets.token_urlsafe(32)
        key = KeySpec(
            hash=key_hash(text),
            hint=text[:_HINT_LENGTH],
            role=Role.CALLER,
            workspace=job.workspace,
            deployments=job.spec.uses,
            owner=job.spec.owner,
            deployment_uid=job.uid,
            jobs=job.spec.submits,
        )
        return [
            *(Delete(each) for each in stale if each is not None),
            Create("secret", job.workspace, name, self._vault.seal(job.workspace, name, text)),
            Create("key", job.workspace, name, key),
        ]

    async def _forget_identity(self, key: DeploymentKey) -> None:
        name = job_identity_name(key[1])
        held = [self._snapshot.find(kind, key[0], name) for kind in ("secret", "key")]
        if deletes := [Delete(each) for each in held if each is not None]:
            await self._store.write(deletes)

    def _keys_without_job(self) -> set[DeploymentKey]:
        found = set()
        for each in self._snapshot.list("key"):
            name = identity_job(each.name)
            if name is not None:
                job = self._snapshot.find("job", each.workspace, name)
                if job is None or job.status.state.ended:
                    found.add((each.workspace, name))
        return found


def room_of(cloud: str, place: PlaceHealth, waiting: Amount, uncounted: Amount, jobs: Amount) -> JobRoom:
    """What a cloud has for jobs: what services leave, and at most its real CPUs.

    `waiting`: what services still need; `uncounted`: what jobs need that were started since the place was observed;
    `jobs`: what all jobs there have.
    """
    if place.free is None:
        return JobRoom(cloud, None)
    free = Amount.of(place.free).plus(waiting, -1.0).plus(uncounted, -1.0)
    total = free.plus(jobs)
    if place.cores is not None:
        total = total._replace(cpus=min(total.cpus, place.cores))
        free = free._replace(cpus=min(free.cpus, place.cores - jobs.cpus))
    return JobRoom(cloud, free, total)


def _began(replica: ReplicaStatus) -> float:
    return replica.since if replica.started_at is None else replica.started_at


def _event(job: JobResource, reason: str, message: str, now: float, level: EventLevel = EventLevel.NORMAL) -> Event:
    return Event(
        at=now,
        workspace=job.workspace,
        kind="job",
        name=job.name,
        uid=job.uid,
        level=level,
        reason=reason,
        message=message,
    )
