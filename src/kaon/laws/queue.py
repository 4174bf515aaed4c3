"""Which waiting job starts next, and in which cloud.

Between workspaces: the one with the smallest dominant share goes first, its largest share of any resource that its
running jobs have (dominant resource fairness). Inside a workspace: by priority, then in the order of submission. A job
starts where it fits into the free capacity, which is what services leave.

When the job whose turn it is does not fit, smaller ones behind it may start. So that they cannot keep it waiting for
ever, a cloud is reserved for a job that has waited for `RESERVE_AFTER_S`: nothing else starts there until it fits.

A `JobQueue` is kept up to date job by job, so that a decision costs the same whether ten jobs wait or 100,000. It has
no clock: times are arguments.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kaon.types.place import Capacity
from kaon.types.service import Resources

RESERVE_AFTER_S = 60.0
UNLIMITED_BYTES = 64 * 2**20
"""Memory that a job without a limit is counted with, as drivers do."""
SHAPES_TRIED = 256
"""Different demands of one workspace that one decision tries."""
UNKNOWN_AT_ONCE = 16
"""Jobs at once in a cloud whose capacity is unknown."""

JobKey = tuple[str, str]
"""Workspace and name of a job."""

QueuePosition = tuple[float, float, JobKey]
"""Place in an order; smaller goes first."""


class Amount(NamedTuple):
    """CPUs, bytes of memory, GPUs."""

    cpus: float = 0.0
    memory: float = 0.0
    gpus: float = 0.0

    @classmethod
    def of(cls, demand: Resources | Capacity) -> Amount:
        """What a job demands, or a place has."""
        memory = UNLIMITED_BYTES if demand.memory_bytes is None else demand.memory_bytes
        return cls(demand.cpus, float(memory), float(demand.gpus))

    def plus(self, other: Amount, factor: float = 1.0) -> Amount:
        """The sum."""
        return Amount(
            self.cpus + factor * other.cpus, self.memory + factor * other.memory, self.gpus + factor * other.gpus
        )

    def fits(self, room: Amount) -> bool:
        """Whether it is at most `room`, up to rounding."""
        return self.cpus <= room.cpus + 1e-9 and self.memory <= room.memory + 0.5 and self.gpus <= room.gpus + 1e-9

    def share(self, total: Amount) -> float:
        """The largest share of any resource of `total`."""
        return max((part / whole for part, whole in zip(self, total, strict=True) if whole > 0), default=0.0)


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that may start."""

    key: JobKey
    demand: Amount
    priority: int = 0
    since: float = 0.0
    """When it was submitted, epoch seconds."""
    not_before: float = 0.0
    group: Hashable = None
    """Its array; None: none."""
    parallel: int | None = None
    """So many jobs of the group at once."""

    @property
    def turn(self) -> QueuePosition:
        """Smaller goes first."""
        return -self.priority, self.since, self.key


Heap = list[tuple[QueuePosition, WaitingJob]]


@dataclass(frozen=True, slots=True)
class JobRoom:
    """What a cloud has for jobs; None: unknown."""

    cloud: str
    free: Amount | None
    """Free now: without services, and without all jobs that were started there."""
    total: Amount | None = None
    """Free if no job ran."""


@dataclass(frozen=True, slots=True)
class Start:
    """A job to start in a cloud."""

    key: JobKey
    cloud: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What starts now, and what must wait for more than its turn."""

    starts: tuple[Start, ...] = ()
    reserved: Mapping[str, JobKey] = field(default_factory=dict)
    """Cloud -> the job for which it is kept free."""
    never: Mapping[JobKey, str] = field(default_factory=dict)
    """Jobs at the head of their workspace that fit in no cloud at all -> why."""
    next_at: float | None = None
    """When a job becomes ready, or a cloud may be reserved; epoch seconds."""


@dataclass(slots=True)
class _Group:
    running: set[JobKey] = field(default_factory=set)
    admitted: set[JobKey] = field(default_factory=set)
    waiting: list[tuple[QueuePosition, JobKey]] = field(default_factory=list)


class JobQueue:
    """All waiting and running jobs."""

    def __init__(self) -> None:
        self._jobs: dict[JobKey, WaitingJob] = {}
        self._later: list[tuple[float, JobKey]] = []
        self._ready: defaultdict[str, dict[Amount, Heap]] = defaultdict(dict)
        """Workspace -> demand -> heap of jobs by turn. Entries of jobs that were removed or changed are skipped."""
        self._running: dict[JobKey, tuple[str, Amount, Hashable]] = {}
        """Job -> cloud, demand, group."""
        self._used: defaultdict[str, Amount] = defaultdict(Amount)
        """Workspace -> what its running jobs have."""
        self._used_in: defaultdict[str, Amount] = defaultdict(Amount)
        """Cloud -> what the jobs there have."""
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._heads: dict[str, list[tuple[QueuePosition, Amount]]] = {}
        """The answers of `heads`, until something of their workspace changes."""
        self._groups: defaultdict[Hashable, _Group] = defaultdict(_Group)

    def __len__(self) -> int:
        return len(self._jobs)

    def waiting_job(self, key: JobKey) -> WaitingJob | None:
        """The waiting job of that key; None: it does not wait."""
        return self._jobs.get(key)

    @property
    def running(self) -> Mapping[JobKey, str]:
        """Running job -> its cloud."""
        return {key: cloud for key, (cloud, _, _) in self._running.items()}

    def used_in(self, cloud: str) -> Amount:
        """What the jobs in a cloud have."""
        return self._used_in[cloud]

    def count_in(self, cloud: str) -> int:
        """The number of running jobs in a cloud."""
        return self._counts[cloud]

    def wait(self, job: WaitingJob) -> None:
        """Add a waiting job, or replace it."""
        if self._jobs.get(job.key) == job and job.key not in self._running:
            return
        self.forget(job.key)
        self._jobs[job.key] = job
        if job.not_before > 0:
            heapq.heappush(self._later, (job.not_before, job.key))
        else:
            self._queue(job)

    def run(self, key: JobKey, cloud: str, demand: Amount, group: Hashable = None) -> None:
        """Record that a job runs in a cloud."""
        if self._running.get(key) == (cloud, demand, group):
            return
        self._leave(key)
        self._running[key] = cloud, demand, group
        self._used[key[0]] = self._used[key[0]].plus(demand)
        self._used_in[cloud] = self._used_in[cloud].plus(demand)
        self._counts[cloud] += 1
        if group is not None:
            self._groups[group].running.add(key)

    def forget(self, key: JobKey) -> None:
        """Remove a job: it has ended or was deleted."""
        if (group := self._leave(key)) is not None:
            self._admit(group)

    def _leave(self, key: JobKey) -> Hashable:
        """Remove a job without queueing the next one of its group, which is returned."""
        waiting = self._jobs.pop(key, None)
        self._heads.pop(key[0], None)
        ran = self._running.pop(key, None)
        group: Hashable = waiting.group if waiting else None
        if ran is not None:
            cloud, demand, group = ran
            self._used[key[0]] = self._used[key[0]].plus(demand, -1.0)
            self._used_in[cloud] = self._used_in[cloud].plus(demand, -1.0)
            self._counts[cloud] -= 1
            if not any(self._counts.values()):  # no rounding errors remain
                self._used.clear()
                self._used_in.clear()
        if group is not None:
            members = self._groups[group]
            members.running.discard(key)
            members.admitted.discard(key)
        return group

    def decide(self, rooms: Iterable[JobRoom], now: float) -> Decision:
        """The jobs that start now, in order. They are not recorded: `run` does that."""
        self._ripen(now)
        turn = _Turn(self, list(rooms), now)
        return turn.decided(self._later[0][0] if self._later else None)

    def heads(self, workspace: str) -> list[tuple[QueuePosition, Amount]]:
        """The position and demand of the first job of each demand in a workspace, in order; at most `SHAPES_TRIED`."""
        if (cached := self._heads.get(workspace)) is not None:
            return cached
        heads: list[tuple[QueuePosition, Amount]] = []
        shapes = self._ready.get(workspace, {})
        for demand in list(shapes):
            if (first := self._first(shapes[demand])) is None:
                del shapes[demand]
            else:
                heads.append((first.turn, demand))
        if not shapes:
            self._ready.pop(workspace, None)
        self._heads[workspace] = heapq.nsmallest(SHAPES_TRIED, heads)
        return self._heads[workspace]

    def _first(self, heap: Heap) -> WaitingJob | None:
        while heap:
            job = heap[0][1]
            if self._jobs.get(job.key) is job:
                return job
            heapq.heappop(heap)
        return None

    def _queue(self, job: WaitingJob) -> None:
        if job.group is None or job.parallel is None:
            self._push(job)
        else:
            heapq.heappush(self._groups[job.group].waiting, (job.turn, job.key))
            self._admit(job.group)

    def _push(self, job: WaitingJob) -> None:
        self._heads.pop(job.key[0], None)
        heapq.heappush(self._ready[job.key[0]].setdefault(job.demand, []), (job.turn, job))

    def _admit(self, group: Hashable) -> None:
        """Queue jobs of a group up to its parallelism."""
        members = self._groups[group]
        while members.waiting:
            _, key = members.waiting[0]
            job = self._jobs.get(key)
            if job is None or job.parallel is None or key in members.admitted:
                heapq.heappop(members.waiting)
                continue
            if len(members.running) + len(members.admitted) >= job.parallel:
                return
            heapq.heappop(members.waiting)
            members.admitted.add(key)
            self._push(job)
        if not members.running and not members.admitted:
            self._groups.pop(group, None)

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            at, key = heapq.heappop(self._later)
            job = self._jobs.get(key)
            if job is not None and job.not_before == at:
                self._queue(job)


class _Turn:
    """One decision: a copy of the shares and rooms, which its starts change."""

    def __init__(self, queue: JobQueue, rooms: list[JobRoom], now: float) -> None:
        self._queue = queue
        self._now = now
        self._free = {room.cloud: room.free for room in rooms}
        self._total = {room.cloud: room.total for room in rooms}
        self._counts = {room.cloud: queue.count_in(room.cloud) for room in rooms}
        self._all = Amount()
        for total in self._total.values():
            self._all = self._all.plus(total or Amount())
        self._starts: list[Start] = []
        self._most = Amount()
        self._reserved: dict[str, JobKey] = {}
        self._never: dict[JobKey, str] = {}
        self._next_at: list[float] = []
        self._popped: list[WaitingJob] = []
        self._heads: dict[str, list[tuple[QueuePosition, Amount]]] = {}
        """Of each workspace that was looked at, kept up to date with the starts."""

    def decided(self, next_at: float | None) -> Decision:
        self._measure()
        used = {workspace: self._queue._used[workspace] for workspace in self._queue._ready}
        order: list[tuple[float, QueuePosition, str]] = []
        for workspace in list(self._queue._ready):
            self._offer(order, workspace, used[workspace])
        while order and any(self._open(cloud) for cloud in self._free):
            _, _, workspace = heapq.heappop(order)
            job = self._next_of(workspace)
            if job is None:
                continue
            used[workspace] = used[workspace].plus(job.demand)
            self._offer(order, workspace, used[workspace])
        for popped in self._popped:
            self._queue._push(popped)
        due = [*self._next_at, *([next_at] if next_at is not None else [])]
        return Decision(tuple(self._starts), self._reserved, self._never, min(due, default=None))

    def _offer(self, order: list[tuple[float, QueuePosition, str]], workspace: str, used: Amount) -> None:
        if workspace not in self._heads:
            self._heads[workspace] = self._queue.heads(workspace)
        if heads := self._heads[workspace]:
            (_, since, key), _ = heads[0]
            # Of equal shares the older job goes first, whatever its priority in its own workspace.
            heapq.heappush(order, (used.share(self._all), (since, 0.0, key), workspace))

    def _open(self, cloud: str) -> bool:
        free = self._free[cloud]
        if cloud in self._reserved:
            return False
        return self._counts[cloud] < UNKNOWN_AT_ONCE if free is None else free.cpus > 1e-9

    def _next_of(self, workspace: str) -> WaitingJob | None:
        """Start the first job of a workspace that fits; its head may reserve a cloud."""
        shapes = self._queue._ready[workspace]
        for position, (_, demand) in enumerate(self._heads[workspace]):
            if self._fits_somewhere(demand):
                job = shapes[demand][0][1]
                cloud = self._place(job)
                if cloud is not None:
                    self._start(job, cloud)
                    self._replace_head(workspace, position, demand)
                    return job
            if position == 0:
                self._hold(shapes[demand][0][1])
        return None

    def _replace_head(self, workspace: str, position: int, demand: Amount) -> None:
        """After the start of the first job of a demand: the next one takes its place in the order."""
        heads = self._heads[workspace]
        del heads[position]
        following = self._queue._first(self._queue._ready[workspace][demand])
        if following is not None:
            insort(heads, (following.turn, demand))

    def _fits_somewhere(self, demand: Amount) -> bool:
        """A quick test: false when no cloud has so much free."""
        cpus, memory, gpus = self._most
        return demand.cpus <= cpus and demand.memory <= memory and demand.gpus <= gpus

    def _measure(self) -> None:
        """Find the most that any open cloud has free of each resource."""
        unknown = Amount(math.inf, math.inf, math.inf)
        free = [self._free[cloud] or unknown for cloud in self._free if self._open(cloud)] or [Amount()]
        most = Amount(*(max(each[n] for each in free) for n in range(3)))
        self._most = most.plus(Amount(1e-9, 0.5, 1e-9))

    def _place(self, job: WaitingJob) -> str | None:
        """The cloud in which a job fits with the least left over; None: in none."""
        found: list[tuple[float, str]] = []
        for cloud, free in self._free.items():
            if not self._open(cloud):
                continue
            if free is None:
                found.append((1.0, cloud))
            elif job.demand.fits(free):
                found.append((free.plus(job.demand, -1.0).share(self._total[cloud] or free), cloud))
        return min(found)[1] if found else None

    def _start(self, job: WaitingJob, cloud: str) -> None:
        self._starts.append(Start(job.key, cloud))
        self._popped.append(job)
        free = self._free[cloud]
        if free is not None:
            self._free[cloud] = free.plus(job.demand, -1.0)
        self._counts[cloud] += 1
        heapq.heappop(self._queue._ready[job.key[0]][job.demand])
        self._measure()

    def _hold(self, job: WaitingJob) -> None:
        """Reserve a cloud for a job that has waited for long and would fit there without other jobs."""
        possible = [cloud for cloud, total in self._total.items() if total is None or job.demand.fits(total)]
        if not possible:
            self._never[job.key] = "No cloud has so many free CPUs, so much memory or so many GPUs."
            return
        at = max(job.since, job.not_before) + RESERVE_AFTER_S
        if self._now < at:
            self._next_at.append(at)
            return
        free = [cloud for cloud in possible if cloud not in self._reserved and self._free[cloud] is not None]
        if free:
            best = max(free, key=lambda cloud: (_gap(job, self._free[cloud]), cloud))
            self._reserved[best] = job.key
            self._measure()


def _gap(job: WaitingJob, free: Amount | None) -> float:
    """How near a cloud's free capacity is to a job's demand: 1 or more when it fits."""
    if free is None:
        return 0.0
    return min((part / need for part, need in zip(free, job.demand, strict=True) if need > 0), default=1.0)
