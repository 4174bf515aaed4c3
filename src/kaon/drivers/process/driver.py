"""Starts, stops and observes replicas that are processes of this machine.

A replica's life here: `INSTALLING` while its artifact and environment are made ready, `STARTING` from the
moment at which its process holds its lock, `EXITED` when that has ended. What a later driver object needs to
find a replica again is on disk before the process begins: its launch file. So each lock that is held without a
launch file is a replica that was being forgotten, and is ended. How a replica ended is on disk, too: its parent, the
keeper of its log, writes the exit code, and the driver what it made of it.

Memory is kept by watching, not by RLIMIT_AS: numerical libraries reserve address space that they never touch.
A replica over its limit is killed within a second with the figures as the reason; one that outruns the watch is
what the kernel takes first when memory runs out (`oom_score_adj`). CPUs are a share: numerical
libraries are told to size their thread pools by them.

What a replica writes goes through a pipe to the keeper of its log (`keeper`), a small process that lives until the last
writer has gone. It outlives this driver as replicas do, and is started again when it ends before its replica.

Processes of one machine are one trust domain: replicas run as the user that Kaon runs as.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kaon import log, proc, processes
from kaon.build.environments import Environments
from kaon.clock import Clock
from kaon.drivers.port import (
    Addresses,
    Capabilities,
    Fetch,
    LogLine,
    PlaceObservation,
    ReplicaObservation,
    Stage,
    Workload,
)
from kaon.drivers.process import exits, logs
from kaon.drivers.process.capacity import Demand, Machine, check_room, free_gpus, gpu_variables, this_machine, totals
from kaon.drivers.process.places import Places, private_folder
from kaon.drivers.process.preparation import Prepared, preparation
from kaon.drivers.process.pruning import KEEP, KeptOnDisk, prune
from kaon.drivers.process.starting import base_environment, start_keeper, start_replica, write_launch
from kaon.drivers.process.workers import Workers
from kaon.errors import KaonError, Unavailable, WorkloadRefused
from kaon.types.flight import FILE_BYTES, Flight, flights
from kaon.types.launch import STACKS_SIGNAL, Launch
from kaon.types.place import PlaceHealth, PlaceState
from kaon.types.replica import WorkloadKind

RUNTIME = ("-m", "kaon.runtime")
"""What python is given to run a replica."""

_MEMORY_WATCH_S = 0.5
_STACKS_S = 0.5
"""How long a replica gets to write its stacks; it takes milliseconds, unless the machine is busy."""

_LAST_LINES = 20
_LOOKED_AT = 400  # lines in which a crash is looked for: it tells the stacks of all threads
_PRUNE_EVERY_S = 600.0
_KEEPER_AGAIN_S = 1.0
_LAST_WORDS_S = 5.0  # the keeper of a log ends within milliseconds of its last writer
_PARENT_POLL_S = 0.01
_DISK_LEAST_BYTES = 2**30
"""With less free space than this, installing is likely to fail."""

_log = log.get("drivers.process")


@dataclass
class _Replica:
    """What this driver object knows of a replica. `life` prepares, starts and then watches it."""

    observation: ReplicaObservation
    demand: Demand
    artifact: str = ""
    gpus: tuple[str, ...] = ()
    life: asyncio.Task[None] | None = None
    launching: asyncio.Task[int] | None = None
    log_from: int = 0
    keeper: int | None = None  # of its log; None: an earlier driver object started it
    hidden: tuple[str, ...] = ()  # what its log must not show; unknown of an adopted one
    why: str = field(default="")  # known better than the exit code tells it
    over_memory: bool = False


class ProcessDriver:
    """Replicas as supervised processes. Use it from one event loop; `close` leaves them running."""

    def __init__(
        self,
        home: Path,
        run_dir: Path,
        fetch: Fetch,
        clock: Clock,
        *,
        runtime: Sequence[str] = RUNTIME,
        devices: Path = Path("/dev"),
        keep: KeptOnDisk = KEEP,
    ) -> None:
        """`home` keeps artifacts, environments, logs and volumes; `run_dir` locks and sockets; `runtime` is what
        python is given to run a replica; `devices` has a file for each GPU; `keep` is what stays though unused."""
        self._places = Places(home, run_dir)
        self._environments = Environments(self._places.environments)
        self._preparation = preparation(self._places, fetch, self._environments)
        self._pruning, self._looking = Workers("prune", 1), Workers("look", 2)
        self._clock = clock
        self._runtime = tuple(runtime)
        self._devices = devices
        self._capabilities = Capabilities(addresses=Addresses.SOCKET, gpus=bool(self._machine().gpus))
        self._keep = keep
        self._replicas: dict[str, _Replica] = {}
        self._adoption: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._version = 0
        self._changed = asyncio.Event()
        self._pruned_at = clock.monotonic()

    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> PlaceHealth:
        await self._adopted()
        used, free = totals(self._machine(), self._promised())
        disk_bytes = shutil.disk_usage(self._places.home).free
        low = disk_bytes < _DISK_LEAST_BYTES
        return PlaceHealth(
            state=PlaceState.DEGRADED if low else PlaceState.OK,
            reason=f"The disk has {disk_bytes / 2**20:,.0f} MiB left." if low else "",
            used=used,
            free=free,
        )

    async def start(self, workload: Workload) -> None:
        await self._adopted()
        spec = workload.spec
        known = self._replicas.get(spec.id)
        if known and known.observation.stage != Stage.EXITED:
            return
        if workload.mounts:
            raise WorkloadRefused("Nothing can be mounted here.", hint="Deploy it to a cloud whose driver has mounts.")
        wants = spec.resources
        demand = Demand(cpus=wants.cpus, memory_bytes=wants.memory_bytes, gpus=wants.gpus)
        machine = self._machine()
        check_room(machine, self._promised(), demand)
        taken = {gpu for r in self._replicas.values() if r.observation.stage != Stage.EXITED for gpu in r.gpus}
        gpus = free_gpus(machine, taken, demand.gpus)
        for value in workload.secrets.values():
            log.hide_secret(value)
        replica = _Replica(ReplicaObservation(id=spec.id, stage=Stage.INSTALLING), demand, spec.artifact, gpus)
        self._replicas[spec.id] = replica
        self._bump()
        replica.life = asyncio.create_task(self._live(replica, workload))

    async def stop(self, replica: str, grace_s: float) -> None:
        await self._adopted()
        known = self._replicas.get(replica)
        if known and known.launching:
            await asyncio.wait([known.launching])  # it takes milliseconds, and what it starts is to be ended
        if known and known.observation.stage == Stage.INSTALLING and known.life:
            known.life.cancel()
            self._see(known, stage=Stage.EXITED, reason="Stopped before it began.")
        if known and not known.why:
            known.why = "It was stopped."
        await processes.stop(self._places.lock(replica), grace_s)
        if known and known.life:
            await asyncio.wait([known.life])

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        return _flights(self._places.flights(replica))

    async def show_stacks(self, replica: str) -> None:
        await self._adopted()
        known = self._replicas.get(replica)
        if known and known.observation.stage == Stage.STARTING:
            await processes.send(self._places.lock(replica), STACKS_SIGNAL)
            await self._clock.sleep(_STACKS_S)

    async def observe(self) -> PlaceObservation:
        await self._adopted()
        return PlaceObservation(self._version, {id_: replica.observation for id_, replica in self._replicas.items()})

    async def changed(self, after: int) -> None:
        await self._adopted()
        if self._version == after:
            await self._changed.wait()

    async def forget(self, replica: str) -> None:
        await self._adopted()
        known = self._replicas.get(replica)
        if known and known.observation.stage != Stage.EXITED:
            return
        await processes.stop(self._places.lock(replica), 0)
        await processes.stop(self._places.log_lock(replica), 0)
        for file in (self._places.launch_file, self._places.exit_file, self._places.ended_file):
            file(replica).unlink(missing_ok=True)
        shutil.rmtree(self._places.sockets(replica), ignore_errors=True)
        if self._replicas.pop(replica, None):
            self._bump()
        if self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY_S:
            self._pruned_at = self._clock.monotonic()
            used = {kept.artifact for kept in self._replicas.values()}
            now = self._clock.now()
            await self._pruning.run(lambda: prune(self._places, self._environments, used, now, self._keep))

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        at: float | None = None
        async for line in logs.follow(self._places.log_file(replica), tail, self._clock, on=follow):
            text = logs.readable(line)
            at = logs.stamp(text) or at
            yield LogLine(replica=replica, text=text, at=at)

    async def close(self) -> None:
        """Stop watching. Replicas run on; what was only being installed is given up."""
        lives = [r.life for r in self._replicas.values() if r.life]
        tasks = [*lives, *self._background, *([self._adoption] if self._adoption else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _machine(self) -> Machine:
        return this_machine(self._devices, os.environ)

    def _promised(self) -> list[Demand]:
        return [r.demand for r in self._replicas.values() if r.observation.stage != Stage.EXITED]

    # A replica's life

    async def _live(self, replica: _Replica, workload: Workload) -> None:
        def progress(text: str) -> None:
            if replica.observation.stage == Stage.INSTALLING:
                self._see(replica, reason=text)

        try:
            prepared = await self._preparation.prepare(workload.spec.artifact, progress)
            await processes.stop(self._places.lock(workload.spec.id), 0)  # what an earlier start left behind
            replica.launching = asyncio.create_task(self._launch(replica, workload, prepared))
            try:
                pid = await replica.launching
            finally:
                replica.launching = None
        except Exception as error:
            if not isinstance(error, KaonError | OSError):
                _log.exception("a replica cannot be started", replica=workload.spec.name)
            self._see(replica, stage=Stage.EXITED, reason=exits.cannot_start(error))
        else:
            await self._watch(replica, pid)

    async def _launch(self, replica: _Replica, workload: Workload, prepared: Prepared) -> int:
        launch = self._placed(workload, prepared, replica.gpus)
        write_launch(self._places, launch)
        log_file = self._places.log_file(launch.id)
        replica.log_from = log_file.stat().st_size if log_file.exists() else 0
        replica.hidden = tuple(form for value in workload.secrets.values() for form in log.forms(value))
        pid, replica.keeper = await start_replica(
            self._places,
            launch,
            [str(prepared.python), "-P", "-s", *self._runtime, "--launch", str(self._places.launch_file(launch.id))],
            launch.environment(base_environment(launch.data_dir)) | gpu_variables(launch.gpus),
            workload.secrets,
            replica.hidden,
        )
        self._see_running(replica, launch, pid)
        return pid

    def _placed(self, workload: Workload, prepared: Prepared, gpus: tuple[str, ...]) -> Launch:
        """The workload's start, at its place on this machine."""
        spec, places = workload.spec, self._places
        assert prepared.manifest is not None
        service = prepared.manifest.service
        # Which GPUs it sees is not for the deployment to say: others may have them.
        env = {name: value for name, value in workload.launch.env.items() if name not in gpu_variables(gpus)}
        return Launch(
            **dict(workload.launch.model_copy(update={"env": env})),
            entry=service.entry,
            loop=service.loop,
            code_dir=str(prepared.code_dir),
            service_address=f"unix:{places.service_socket(spec.id)}",
            control_address=f"unix:{places.control_socket(spec.id)}",
            data_dir=str(private_folder(places.volume(spec.workspace, spec.deployment, spec.deployment_uid))),
            flights_file=str(places.flights(spec.id)),
            uses_any=service.uses is None,
            gpus=gpus,
        )

    async def _keeper_gone(self, replica: _Replica, timeout_s: float | None) -> None:
        await processes.gone(self._places.log_lock(replica.observation.id), timeout_s)
        if replica.keeper is not None:
            processes.exit_code(replica.keeper)  # reaps it

    async def _keep_log(self, replica: _Replica) -> None:
        """Start the keeper again whenever it has ended."""
        while True:
            await self._keeper_gone(replica, None)
            await self._clock.sleep(_KEEPER_AGAIN_S)
            with contextlib.suppress(KaonError, OSError):  # tried again in a second
                replica.keeper = start_keeper(self._places, replica.observation.id, replica.hidden)

    async def _watch(self, replica: _Replica, pid: int) -> None:
        """See a process to its end."""
        id_, left = replica.observation.id, ""
        keeping = asyncio.create_task(self._keep_log(replica))
        try:
            await processes.ended(pid)
            await processes.stop(self._places.lock(id_), 0)  # children of it that left its session
        except Unavailable as error:
            left = f" {error.cause}"
        finally:
            keeping.cancel()
        await self._keeper_gone(replica, _LAST_WORDS_S)
        await self._note_end(replica, exits.read_code(self._places.exit_file(id_)), left)

    async def _note_end(self, replica: _Replica, code: int | None, left: str = "") -> None:
        """Make its end known, and keep it for the next driver object; `left` tells of what did not end with it."""
        id_ = replica.observation.id
        log_file = self._places.log_file(id_)
        written = await self._looking.run(lambda: logs.last_lines(log_file, _LOOKED_AT, since_byte=replica.log_from))
        last = logs.excerpt(written, _LAST_LINES)
        at_fault = replica.over_memory or not (replica.why or code == 0 or processes.ended_from_outside(code))
        self._see(
            replica,
            stage=Stage.EXITED,
            exit_code=code,
            last_lines=last,
            reason=(replica.why or exits.reason(code, last)) + left,
            blamed=tuple(flight.request_id for flight in _flights(self._places.flights(id_))) if at_fault else (),
        )
        exits.write_ended(self._places.ended_file(id_), replica.observation)

    async def _keep_memory(self) -> None:
        """End each replica that uses more memory than its limit; all are looked at together."""
        while True:
            limits = {
                id_: (replica.observation.pid, replica.demand.memory_bytes)
                for id_, replica in self._replicas.items()
                if replica.observation.stage == Stage.STARTING
                and replica.observation.pid
                and replica.demand.memory_bytes
            }
            if limits:
                with contextlib.suppress(Unavailable):  # no thread, for now
                    over = await self._looking.run(partial(_over_memory, limits))
                    await asyncio.gather(*(self._end_over_memory(id_, used) for id_, used in over.items()))
            await self._clock.sleep(_MEMORY_WATCH_S)

    async def _end_over_memory(self, id_: str, used_bytes: int) -> None:
        replica = self._replicas.get(id_)
        if replica is None or replica.observation.stage != Stage.STARTING:
            return
        used_mib, limit_mib = used_bytes / 2**20, (replica.demand.memory_bytes or 0) / 2**20
        replica.why = f"Killed: it used {used_mib:,.0f} MiB of memory, its limit is {limit_mib:,.0f} MiB."
        replica.over_memory = True
        with contextlib.suppress(Unavailable):  # it does not end yet; it is tried again
            await processes.stop(self._places.lock(id_), 0)

    # Adoption

    async def _adopted(self) -> None:
        """Find again, once, what an earlier driver object left on this machine."""
        if self._adoption is None:
            self._adoption = asyncio.create_task(self._adopt())
        await asyncio.shield(self._adoption)

    async def _adopt(self) -> None:
        private_folder(self._places.home)
        private_folder(self._places.run_dir / "replicas")
        for id_ in self._places.launched():
            try:
                launch = Launch.model_validate_json(self._places.launch_file(id_).read_bytes())
            except (ValueError, OSError) as error:  # written by another version, or not whole: it is not known any more
                _log.warning("a replica of an earlier agent cannot be taken over", replica=id_, error=str(error))
                with contextlib.suppress(OSError):
                    self._places.launch_file(id_).unlink()
            else:
                self._replicas[id_] = await self._adopt_one(launch)
        self._bump()
        self._begin(self._keep_memory())
        for id_ in self._places.locked():
            if id_ not in self._replicas:
                self._begin(self._end_stranger(id_))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end_stranger(self, id_: str) -> None:
        try:
            await processes.stop(self._places.lock(id_), 0)
        except Unavailable as error:  # a start of a replica of that id will say so
            _log.warning("a process of an earlier agent cannot be ended", replica=id_, error=error.cause)
            return
        if id_ not in self._replicas:  # nor was it started meanwhile
            shutil.rmtree(self._places.sockets(id_), ignore_errors=True)

    async def _adopt_one(self, launch: Launch) -> _Replica:
        demand = Demand(cpus=launch.cpus, memory_bytes=launch.memory_bytes, gpus=len(launch.gpus))
        digest = f"sha256:{Path(launch.code_dir).parent.name}"
        replica = _Replica(ReplicaObservation(id=launch.id, stage=Stage.EXITED), demand, digest, launch.gpus)
        pid = await self._found(launch.id)
        code = exits.read_code(self._places.exit_file(launch.id))
        if pid is not None and code is None:
            self._see_running(replica, launch, pid)
            replica.life = asyncio.create_task(self._watch(replica, pid))
        elif ended := exits.read_ended(self._places.ended_file(launch.id)):
            replica.observation = ended
        else:
            await self._keeper_gone(replica, _LAST_WORDS_S)  # it may be about to write the code
            code = exits.read_code(self._places.exit_file(launch.id))
            replica.why = "" if code is not None else "It ended while no agent watched; its exit code is unknown."
            await self._note_end(replica, code)
        return replica

    async def _found(self, id_: str) -> int | None:
        """The replica's process; its parent may hold its lock for the moment that it takes to start it."""
        lock, log_lock = self._places.lock(id_), self._places.log_lock(id_)
        while True:
            pid, parent = await self._looking.run(lambda: (processes.leader(lock), processes.leader(log_lock)))
            if pid is None or pid != parent:
                return pid
            await self._clock.sleep(_PARENT_POLL_S)

    # What is seen

    def _see_running(self, replica: _Replica, launch: Launch, pid: int) -> None:
        self._see(
            replica,
            stage=Stage.STARTING,
            reason="",
            pid=pid,
            started_at=proc.started_at(pid),
            service_address=launch.service_address if launch.kind is WorkloadKind.SERVICE else None,
            control_address=launch.control_address,
        )

    def _see(self, replica: _Replica, **changes: object) -> None:
        replica.observation = replica.observation.model_copy(update=changes)
        self._bump()

    def _bump(self) -> None:
        """The observation is another one from now on."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()


def _over_memory(limits: Mapping[str, tuple[int | None, int | None]]) -> dict[str, int]:
    """The bytes that those use that use more than their limit; `limits` has pid and bytes of each."""
    seen = proc.table()
    used = {id_: proc.memory_over(pid or 0, limit or 0, seen) for id_, (pid, limit) in limits.items()}
    return {id_: count for id_, count in used.items() if count}


def _flights(file: Path) -> tuple[Flight, ...]:
    """What a replica noted of its calls in flight; nothing, when it noted none."""
    try:
        with file.open("rb") as opened:
            return flights(opened.read(FILE_BYTES), time.monotonic())
    except OSError:
        return ()
