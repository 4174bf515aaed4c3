"""Starts, stops and observes replicas that are processes of this machine; the life of one is `life.ReplicaLife`.

Replicas outlive this driver object, and the next one takes them over by their launch files. A lock that is held without
a launch file belongs to a replica whose files were being deleted, and its process is ended.

Memory is limited by watching, not by RLIMIT_AS: numerical libraries reserve address space that they never use. A
replica over its limit is killed within a second, with the figures as the reason; one that grows faster than that is the
first that the kernel ends when memory runs out (`oom_score_adj`). CPUs are a share: they set the size of the thread
pools of numerical libraries.

The output of a replica goes through a pipe to the keeper of its log (`keeper`), a small process that lives until the
last writer has ended. It outlives this driver as replicas do, and is started again when it ends before its replica.

Processes of one machine are one trust domain: replicas run as the user that Kaon runs as.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path

from kaon import log, proc, processes
from kaon.build import archive
from kaon.build.environments import Environments
from kaon.build.limits import DEFAULT_LIMITS, ArtifactLimits
from kaon.clock import Clock
from kaon.drivers.port import Addresses, Capabilities, DatasetFolders, Fetch, LogLine, PlaceObservation, Workload
from kaon.drivers.process import logs
from kaon.drivers.process.capacity import Demand, Machine, check_room, free_gpus, this_machine, totals
from kaon.drivers.process.life import LifeContext, ReplicaLife, flights_in
from kaon.drivers.process.places import Places, private_folder
from kaon.drivers.process.preparation import preparation
from kaon.drivers.process.pruning import KEEP, KeptOnDisk, prune
from kaon.drivers.process.volumes import prune_volumes
from kaon.drivers.process.workers import Workers
from kaon.errors import KaonError, PlaceFull, Unavailable, WorkloadRefused
from kaon.types.flight import Flight
from kaon.types.launch import STACKS_SIGNAL, Launch, LaunchSpec
from kaon.types.place import PlaceHealth, PlaceState

RUNTIME = ("-m", "kaon.runtime")
"""Python's arguments to run a replica."""

_MEMORY_WATCH_S = 0.5
_STACKS_S = 0.5
"""How long a replica gets to write its stacks; it takes milliseconds, unless the machine is busy."""

_PRUNE_EVERY_S = 600.0
_DISK_LEAST_BYTES = 2**30
"""With less free space than this, installing is likely to fail."""

_log = log.get("drivers.process")


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
        datasets: DatasetFolders | None = None,
        owners: Callable[[], Awaitable[Collection[str]]] | None = None,
        limits: ArtifactLimits = DEFAULT_LIMITS,
    ) -> None:
        """`home` holds artifacts, environments, logs and volumes; `run_dir` locks and sockets; `runtime` are Python's
        arguments to run a replica; `devices` has a file for each GPU; `keep`: what is kept though unused; `datasets`
        has the folders of datasets, None: there are none here; `owners` gives the uids of
        what exists; `limits` are those of artifacts."""
        self._places = Places(home, run_dir)
        self._environments = Environments(self._places.environments)
        prepare = preparation(self._places, fetch, self._environments, limits)
        self._pruning, self._searching = Workers("prune", 1), Workers("look", 2)
        self._context = LifeContext(self._places, prepare, clock, tuple(runtime), self._searching, self._bump, datasets)
        self._clock = clock
        self._devices = devices
        self._capabilities = Capabilities(addresses=Addresses.SOCKET, gpus=bool(self._machine().gpus))
        self._keep = keep
        self._datasets = datasets
        self._owners = owners
        self._replicas: dict[str, ReplicaLife] = {}
        self._adoption: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._version = 0
        self._changed = asyncio.Event()
        self._pruned_at = clock.monotonic()

    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> PlaceHealth:
        await self._adopted()
        machine = self._machine()
        used, free = totals(machine, self._promised())
        disk_bytes = shutil.disk_usage(self._places.home).free
        low = disk_bytes < _DISK_LEAST_BYTES
        return PlaceHealth(
            state=PlaceState.DEGRADED if low else PlaceState.OK,
            reason=f"The disk has {disk_bytes / 2**20:,.0f} MiB left." if low else "",
            used=used,
            free=free,
            cores=machine.cpus,
        )

    async def start(self, workload: Workload) -> None:
        await self._adopted()
        spec = workload.spec
        existing = self._replicas.get(spec.id)
        if existing and not existing.exited:
            return
        if workload.mounts:
            raise WorkloadRefused("Nothing can be mounted here.", hint="Deploy it to a cloud whose driver has mounts.")
        call = workload.launch.call
        if (spec.datasets or (call and call.inputs)) and self._datasets is None:
            raise WorkloadRefused("There are no datasets here.", hint="Deploy it to a cloud that has datasets.")
        folder = str(self._places.volume(spec.workspace, spec.deployment, spec.deployment_uid))
        if spec.alone and any(r.data_dir == folder and not r.exited for r in self._replicas.values()):
            raise PlaceFull("Another replica uses its folder, and has not ended yet.")
        wants = spec.resources
        demand = Demand(cpus=wants.cpus, memory_bytes=wants.memory_bytes, gpus=wants.gpus)
        machine = self._machine()
        check_room(machine, self._promised(), demand)
        taken = {gpu for replica in self._replicas.values() if not replica.exited for gpu in replica.gpus}
        gpus = free_gpus(machine, taken, demand.gpus)
        for value in workload.secrets.values():
            log.hide_secret(value)
        replica = self._replicas[spec.id] = ReplicaLife(self._context, spec.id, demand, spec.artifact, gpus)
        replica.manifests, replica.data_dir = _manifests(workload.launch), folder
        self._bump()
        replica.start(workload)

    async def stop(self, replica: str, grace_s: float) -> None:
        await self._adopted()
        if existing := self._replicas.get(replica):
            await existing.stop(grace_s)
        else:
            await processes.stop(self._places.lock(replica), grace_s)

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        return flights_in(self._places.flights(replica))

    async def show_stacks(self, replica: str) -> None:
        await self._adopted()
        existing = self._replicas.get(replica)
        if existing and existing.running:
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
        existing = self._replicas.get(replica)
        if existing and not existing.exited:
            return
        await processes.stop(self._places.lock(replica), 0)
        await processes.stop(self._places.log_lock(replica), 0)
        for file in (self._places.launch_file, self._places.exit_file, self._places.ended_file):
            file(replica).unlink(missing_ok=True)
        job_dir = self._places.job_dir(replica)
        if job_dir.exists():
            await self._pruning.run(lambda: archive.remove(job_dir))
        shutil.rmtree(self._places.sockets(replica), ignore_errors=True)
        if self._replicas.pop(replica, None):
            self._bump()
        if self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY_S:
            self._pruned_at = self._clock.monotonic()
            used = {kept.artifact for kept in self._replicas.values()}
            now = self._clock.now()
            await self._pruning.run(lambda: prune(self._places, self._environments, used, now, self._keep))
            if self._datasets is not None:
                manifests = {manifest for kept in self._replicas.values() for manifest in kept.manifests}
                await self._datasets.prune(manifests, self._keep.datasets)
            await self._prune_volumes()

    async def _prune_volumes(self) -> None:
        """Remove the folders of deployments that were deleted long ago, as far as it is known which exist."""
        if self._owners is None:
            return
        try:
            owners = await self._owners()
        except KaonError as error:
            _log.warning("it is not known which deployments exist", cause=error.cause)
            return
        used = {kept.data_dir for kept in self._replicas.values()}
        volumes, now = self._places.home / "volumes", self._clock.now()
        await self._pruning.run(lambda: prune_volumes(volumes, owners, used, now, self._keep.volumes_s))

    def job_dir(self, replica: str) -> Path:
        return self._places.job_dir(replica)

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        async for line in logs.follow(self._places.log_file(replica), tail, self._clock, on=follow):
            yield LogLine(replica=replica, text=line.text, at=line.at)

    async def close(self) -> None:
        """Stop watching. Replicas keep running; installations are cancelled."""
        lives = [replica.task for replica in self._replicas.values() if replica.task]
        tasks = [*lives, *self._background, *([self._adoption] if self._adoption else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _machine(self) -> Machine:
        return this_machine(self._devices, os.environ)

    def _promised(self) -> list[Demand]:
        return [replica.demand for replica in self._replicas.values() if not replica.exited]

    async def _watch_memory(self) -> None:
        """End each replica that uses more memory than its limit; one search of `/proc` serves all."""
        while True:
            limits = {
                id_: (replica.observation.pid, replica.demand.memory_bytes)
                for id_, replica in self._replicas.items()
                if replica.running and replica.observation.pid and replica.demand.memory_bytes
            }
            if limits:
                with contextlib.suppress(Unavailable):  # no thread is free now
                    over = await self._searching.run(partial(_over_memory, limits))
                    found = ((self._replicas.get(id_), used) for id_, used in over.items())
                    await asyncio.gather(*(replica.end_over_memory(used) for replica, used in found if replica))
            await self._clock.sleep(_MEMORY_WATCH_S)

    # Replicas of earlier driver objects

    async def _adopted(self) -> None:
        """Take over, once, the replicas of an earlier driver object."""
        if self._adoption is None:
            self._adoption = asyncio.create_task(self._adopt())
        await asyncio.shield(self._adoption)

    async def _adopt(self) -> None:
        private_folder(self._places.home)
        private_folder(self._places.run_dir / "replicas")
        for id_ in self._places.launched():
            try:
                launch = Launch.model_validate_json(self._places.launch_file(id_).read_bytes())
            except (ValueError, OSError) as error:  # written by another version, or incomplete
                _log.warning("a replica of an earlier agent cannot be taken over", replica=id_, error=str(error))
                with contextlib.suppress(OSError):
                    self._places.launch_file(id_).unlink()
            else:
                demand = Demand(cpus=launch.cpus, memory_bytes=launch.memory_bytes, gpus=len(launch.gpus))
                artifact = f"sha256:{Path(launch.code_dir).parent.name}"
                replica = ReplicaLife(self._context, launch.id, demand, artifact, launch.gpus)
                replica.manifests, replica.data_dir = _manifests(launch), launch.data_dir
                if await replica.take_over(launch):
                    self._replicas[id_] = replica
                else:
                    self._places.launch_file(id_).unlink(missing_ok=True)
        for folder in self._places.job_dirs():
            if folder.name not in self._replicas:  # it was being forgotten
                await self._pruning.run(partial(archive.remove, folder))
        self._bump()
        self._begin(self._watch_memory())
        for id_ in self._places.locked():
            if id_ not in self._replicas:
                self._begin(self._end_forgotten(id_))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end_forgotten(self, id_: str) -> None:
        """End a process without a launch file."""
        try:
            await processes.stop(self._places.lock(id_), 0)
        except Unavailable as error:  # a start of a replica with that id will report it
            _log.warning("a process of an earlier agent cannot be ended", replica=id_, error=error.cause)
            return
        if id_ not in self._replicas:  # it was not started meanwhile
            shutil.rmtree(self._places.sockets(id_), ignore_errors=True)

    def _bump(self) -> None:
        """Give the observation a new version."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()


def _manifests(launch: LaunchSpec) -> frozenset[str]:
    """The digests of the manifests of the datasets that it reads."""
    inputs = launch.call.inputs.values() if launch.call else ()
    return frozenset({*(use.version.manifest for use in launch.datasets), *(ref.manifest for ref in inputs)})


def _over_memory(limits: Mapping[str, tuple[int | None, int | None]]) -> dict[str, int]:
    """Bytes used by each replica that is over its limit; `limits` has the process and the bytes of each."""
    table = proc.table()
    used = {id_: proc.memory_over(pid or 0, limit or 0, table) for id_, (pid, limit) in limits.items()}
    return {id_: count for id_, count in used.items() if count}
