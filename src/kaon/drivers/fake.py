"""A place where replicas run in memory only, following a script: for tests and for the simulator.

It passes the same contract suite as the real drivers, and all of its time comes from the given clock. `FakeReplicas`
answers as real replicas do on their control sockets, so that an agent runs against both unchanged.
`FakePlace.faults` sets the failures of the driver's methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from kaon.clock import Clock
from kaon.drivers.port import (
    Addresses,
    Capabilities,
    LogLine,
    PlaceObservation,
    ReplicaObservation,
    Stage,
    Workload,
)
from kaon.errors import PlaceFull, PlaceUnavailable, Unavailable, WorkloadRefused
from kaon.processes import ended_from_outside
from kaon.types.flight import Flight
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import EXIT_CONFIG, ReplicaHealth
from kaon.types.model import Address, Model
from kaon.types.place import Capacity, PlaceHealth, PlaceState
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, WorkloadKind

BEHAVIOUR = "BEHAVIOUR"
"""Environment variable of a replica that holds its `Behaviour` as JSON."""


class Behaviour(Model):
    """What a replica does once it is started."""

    ready_after_s: float | None = Field(default=0.0, description="None: never.")
    ends_after_s: float | None = Field(default=None, description="None: when it is stopped.")
    exit_code: int = Field(default=1, description="Its exit code when it ends by itself.")
    lines: tuple[str, ...] = Field(default=(), description="The lines that it writes to its log at its start.")
    outputs: dict[str, str] = Field(
        default_factory=dict, description="Of a job: the files that it writes at its end, 'PARAMETER/path' -> text."
    )
    result: str = Field(default="", description="Of a job: its result as JSON.")
    progress: tuple[str, ...] = Field(default=(), description="Of a job: lines of its progress.")
    deaf: bool = Field(default=False, description="Ignores SIGTERM.")
    flights: dict[str, float] = Field(
        default_factory=dict, description="Calls that it records at its start: request id -> seconds left."
    )


CONFIG_ERROR = Behaviour(ready_after_s=None, ends_after_s=0.0, exit_code=EXIT_CONFIG)


def behaviour_in_env(workload: Workload) -> Behaviour:
    """The script of the contract suite: the behaviour in the replica's environment."""
    return Behaviour.model_validate_json(workload.spec.env.get(BEHAVIOUR, "{}"))


Script = Callable[[Workload], Behaviour]


@dataclass(frozen=True)
class Fault:
    """The failure of a driver's method: it raises `error`, hangs, or does its work only after `late_s`."""

    error: Exception | None = None
    hang: bool = False
    late_s: float = 0.0


@dataclass
class FakeReplica:
    """One replica. `in_flight`, `flights` and `frozen` are for tests to set."""

    workload: Workload
    behaviour: Behaviour
    pid: int
    began: float
    began_at: float
    access: Access
    knobs: Knobs
    waits: bool = False
    stopped: ReplicaObservation | None = None
    in_flight: int = 0
    flights: dict[str, float] = field(default_factory=dict)  # request id -> seconds left when it began
    refusals: Refusals = field(default_factory=Refusals)
    frozen: bool = False
    lines: list[str] = field(default_factory=list)


class FakePlace:
    """The replicas, which outlive a driver object."""

    def __init__(
        self,
        clock: Clock,
        *,
        script: Script = behaviour_in_env,
        room: int | None = None,
        queues: bool = False,
        addresses: Addresses = Addresses.SOCKET,
        jobs: Path | None = None,
    ) -> None:
        """`room` is how many replicas may run at once; a place that `queues` takes more, and starts them later.

        `jobs` is the folder of jobs; by default a temporary one.
        """
        self.clock = clock
        self.script = script
        self.room = room
        self.queues = queues
        self.addresses = addresses
        self._jobs = jobs
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.replicas: dict[str, FakeReplica] = {}
        self.pids = 1000
        self.unkillable = ""
        """Why no replica can be stopped now; empty: replicas can be stopped."""
        self.stops = 0
        """How often `stop` was called for a running replica."""
        self.faults: dict[str, Fault] = {}
        """The current faults of the driver's methods, by name."""
        self.version = 0
        self.changed = asyncio.Event()
        """Set when the version has changed, and then replaced by a new event."""

    @property
    def jobs(self) -> Path:
        """The folder of jobs."""
        if self._jobs is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="kaon-jobs-")
            self._jobs = Path(self._temporary.name)
        return self._jobs

    @property
    def running(self) -> int:
        """How many replicas run."""
        return sum(replica.stopped is None and not replica.waits for replica in self.replicas.values())

    def bump(self) -> None:
        """Give the observation a new version."""
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()

    def settle(self) -> None:
        """End the replicas whose time is over, and start those that waited for room."""
        for replica in self.replicas.values():
            self.settle_one(replica)
        for replica in self.replicas.values():
            if replica.waits and self.has_room:
                replica.waits = False
                replica.began, replica.began_at = self.clock.monotonic(), self.clock.now()
                self.bump()

    def settle_one(self, replica: FakeReplica) -> None:
        """End it when its time is over."""
        if replica.stopped is None and not replica.waits and self.left_s(replica) == 0:
            self._write_job(replica)
            self.end(replica, replica.behaviour.exit_code)

    def _write_job(self, replica: FakeReplica) -> None:
        """Write what a job writes: its outputs, its result and its progress."""
        if replica.workload.kind is not WorkloadKind.JOB:
            return
        folder, does = self.jobs / replica.workload.spec.id, replica.behaviour
        for path, text in does.outputs.items():
            file = folder / "outputs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (folder / "progress.jsonl").write_text("".join(f"{line}\n" for line in does.progress))
        if does.result:
            (folder / "result.json").write_text(does.result)

    @property
    def has_room(self) -> bool:
        """Whether one more may run."""
        return self.room is None or self.running < self.room

    def left_s(self, replica: FakeReplica) -> float | None:
        """Seconds until a replica ends by itself; None: it never does."""
        if replica.behaviour.ends_after_s is None:
            return None
        return max(0.0, replica.began + replica.behaviour.ends_after_s - self.clock.monotonic())

    def end(self, replica: FakeReplica, code: int | None, reason: str = "") -> None:
        """Record the end of a replica; `code` is None when it never began."""
        by_fault = code is not None and code != 0 and not ended_from_outside(code)
        replica.waits = False
        replica.stopped = ReplicaObservation(
            id=replica.workload.spec.id,
            stage=Stage.EXITED,
            reason=reason or f"It ended with exit code {code}.",
            pid=replica.pid,
            started_at=replica.began_at,
            ended_at=self.clock.now(),
            exit_code=code,
            last_lines=tuple(replica.lines[-20:]),
            blamed=tuple(replica.flights) if by_fault else (),
        )
        self.bump()

    def observation(self, replica: FakeReplica) -> ReplicaObservation:
        """The observation of a replica."""
        id_ = replica.workload.spec.id
        if replica.waits:
            return ReplicaObservation(
                id=id_, stage=Stage.WAITING, reason=f"No capacity left: {self.room} replicas run here."
            )
        is_service = replica.workload.kind is WorkloadKind.SERVICE
        service, control = f"unix:/fake/{id_}/service.sock", f"unix:/fake/{id_}/control.sock"
        if self.addresses is Addresses.TCP:
            service, control = f"{id_}.fake:8000", f"{id_}.fake:8001"
        return replica.stopped or ReplicaObservation(
            id=id_,
            stage=Stage.STARTING,
            pid=replica.pid,
            started_at=replica.began_at,
            service_address=service if is_service else None,
            control_address=control if is_service else None,
        )


class FakeDriver:
    """A driver over a `FakePlace`."""

    def __init__(self, place: FakePlace) -> None:
        self._place = place

    def capabilities(self) -> Capabilities:
        return Capabilities(addresses=self._place.addresses)

    async def health(self) -> PlaceHealth:
        await self._fault("health")
        place = self._place
        place.settle()
        reason = place.unkillable
        return PlaceHealth(
            state=PlaceState.DEGRADED if reason else PlaceState.OK,
            reason=reason,
            used=Capacity(cpus=place.running),
            free=None if place.room is None else Capacity(cpus=max(0, place.room - place.running)),
        )

    async def start(self, workload: Workload) -> None:
        await self._fault("start")
        place, id_ = self._place, workload.spec.id
        place.settle()
        before = place.replicas.get(id_)
        if before and before.stopped is None:
            return
        if workload.mounts:
            raise WorkloadRefused("Nothing can be mounted here.")
        if place.addresses is Addresses.TCP and not workload.launch.control_token:
            raise WorkloadRefused("Its control address would need no token.")
        if not place.has_room and not place.queues:
            raise PlaceFull(f"No capacity left: {place.room} replicas run here.")
        if workload.kind is WorkloadKind.JOB:
            shutil.rmtree(place.jobs / id_, ignore_errors=True)
            (place.jobs / id_).mkdir(parents=True)
        place.pids += 1
        behaviour = place.script(workload)
        place.replicas[id_] = FakeReplica(
            workload=workload,
            behaviour=behaviour,
            pid=place.pids,
            began=place.clock.monotonic(),
            began_at=place.clock.now(),
            access=workload.launch.access,
            knobs=workload.launch.knobs,
            waits=not place.has_room,
            flights=dict(behaviour.flights),
            lines=[*(before.lines if before else []), *behaviour.lines],
        )
        place.bump()

    async def stop(self, replica: str, grace_s: float) -> None:
        await self._fault("stop")
        place = self._place
        place.settle()
        found = place.replicas.get(replica)
        if found is None or found.stopped:
            return
        place.stops += 1
        if place.unkillable:
            raise Unavailable(place.unkillable)
        if found.waits:
            place.end(found, None, "Stopped before it began.")
            return
        deaf = found.behaviour.deaf or found.frozen
        if deaf and grace_s:
            await place.clock.sleep(grace_s)
        if found.stopped is None:
            place.end(found, -9 if deaf or not grace_s else 0)

    async def observe(self) -> PlaceObservation:
        await self._fault("observe")
        place = self._place
        place.settle()
        return PlaceObservation(
            place.version, {id_: place.observation(replica) for id_, replica in place.replicas.items()}
        )

    async def changed(self, after: int) -> None:
        await self._fault("changed")
        place = self._place
        while True:
            place.settle()
            if place.version != after:
                return
            running = (replica for replica in place.replicas.values() if not replica.stopped and not replica.waits)
            ends = [left_s for replica in running if (left_s := place.left_s(replica)) is not None]
            news = asyncio.ensure_future(place.changed.wait())
            due = asyncio.ensure_future(place.clock.sleep(min(ends))) if ends else None
            try:
                await asyncio.wait([news, *([due] if due else [])], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in (news, due):
                    if waiting:
                        waiting.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await waiting

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        await self._fault("flights")
        self._place.settle()
        found = self._place.replicas.get(replica)
        if found is None or found.stopped:
            return ()
        age_s = self._place.clock.monotonic() - found.began
        return tuple(Flight(request_id=id_, left_s=left_s - age_s) for id_, left_s in found.flights.items())

    async def show_stacks(self, replica: str) -> None:
        await self._fault("show_stacks")
        self._place.settle()
        if (found := self._place.replicas.get(replica)) and not found.stopped and not found.waits:
            found.lines.append("Current thread 0x1 (most recent call first):")

    async def forget(self, replica: str) -> None:
        await self._fault("forget")
        self._place.settle()
        if (found := self._place.replicas.get(replica)) and found.stopped:
            del self._place.replicas[replica]
            if found.workload.kind is WorkloadKind.JOB:
                shutil.rmtree(self._place.jobs / replica, ignore_errors=True)
            self._place.bump()

    def job_dir(self, replica: str) -> Path:
        return self._place.jobs / replica

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        await self._fault("logs")
        found = self._place.replicas.get(replica)
        read = max(0, len(found.lines) - tail) if found else 0
        while found:
            for text in found.lines[read:]:
                yield LogLine(replica=replica, text=text)
            read = len(found.lines)
            if not follow:
                return
            await self._place.clock.sleep(0.1)
            found = self._place.replicas.get(replica)

    async def _fault(self, method: str) -> None:
        fault = self._place.faults.get(method, Fault())
        if fault.error:
            raise fault.error
        if fault.hang:
            await asyncio.Event().wait()
        if fault.late_s:
            await self._place.clock.sleep(fault.late_s)


FAULTS: dict[str, Fault] = {
    "full": Fault(PlaceFull("No capacity left.")),
    "away": Fault(PlaceUnavailable("The place does not answer.")),
    "refused": Fault(WorkloadRefused("It can never run here.")),
    "mistake": Fault(ZeroDivisionError("a bug of the driver")),
    "hang": Fault(hang=True),
    "late": Fault(late_s=3.0),
}
"""Each way in which a method of a driver can fail, by name."""


class FakeReplicas:
    """The replicas of a `FakePlace`, on their control addresses."""

    def __init__(self, place: FakePlace) -> None:
        self._place = place

    async def health(self, address: Address) -> ReplicaHealth:
        """The answer of the replica's `/ready`. Raises `Unavailable` when nothing answers there."""
        replica = self._at(address)
        after = replica.behaviour.ready_after_s
        ready = after is not None and self._place.clock.monotonic() >= replica.began + after
        return ReplicaHealth(
            phase=Phase.READY if ready else Phase.LOADING,
            in_flight=replica.in_flight,
            access=replica.access.named().version,
            knobs=replica.knobs.named().version,
            refusals=replica.refusals.named().version,
        )

    async def admit(self, address: Address, access: Access) -> None:
        """`PUT /access` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).access = access

    async def tune(self, address: Address, knobs: Knobs) -> None:
        """`PUT /knobs` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).knobs = knobs

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        """`PUT /refusals` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).refusals = refusals

    def let_go(self, address: Address) -> None:
        """Nothing is kept for a replica that has ended."""

    def _at(self, address: Address) -> FakeReplica:
        id_ = address.split("/")[-2] if address.startswith("unix:") else address.partition(".")[0]
        replica = self._place.replicas.get(id_)
        if replica is not None:
            self._place.settle_one(replica)
        if replica is None or replica.frozen or replica.stopped or replica.waits:
            raise Unavailable(f"Nothing answers at {address}.")
        return replica
