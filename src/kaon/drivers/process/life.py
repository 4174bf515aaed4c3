"""One replica's life on this machine: prepared, started, watched, ended.

It is `INSTALLING` while its artifact and environment are prepared, `STARTING` while its process holds its lock, and
`EXITED` once that has ended. A later driver object finds it by its launch file, which is written before the process
starts. Its exit is on disk too: the keeper of its log, which is its parent, writes the exit code, and the driver its
last observation.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaon import log, proc, processes
from kaon.build import archive
from kaon.clock import Clock
from kaon.drivers.port import DatasetFolders, ReplicaObservation, Stage, Workload
from kaon.drivers.process import exits, logs
from kaon.drivers.process.capacity import Demand, gpu_variables
from kaon.drivers.process.places import Places, private_folder
from kaon.drivers.process.preparation import OnProgress, Preparation, Prepared
from kaon.drivers.process.starting import base_environment, start_keeper, start_replica, write_launch
from kaon.drivers.process.workers import Workers
from kaon.errors import KaonError, Unavailable
from kaon.process_locks import leader
from kaon.types.flight import FILE_BYTES, Flight, flights
from kaon.types.launch import Launch
from kaon.types.replica import WorkloadKind

_LAST_LINES = 20
_SEARCHED_LINES = 400
"""Last lines in which a crash is searched: its report has the stacks of all threads."""
_KEEPER_AGAIN_S = 1.0
_KEEPER_ENDS_S = 5.0
"""How long the keeper of a log may take to end after its last writer; it takes milliseconds."""
_PARENT_POLL_S = 0.01

_log = log.get("drivers.process")


@dataclass(frozen=True)
class LifeContext:
    """What all replicas of a driver share."""

    places: Places
    preparation: Preparation
    clock: Clock
    runtime: Sequence[str]
    threads: Workers
    """For reading logs and searching `/proc`."""
    changed: Callable[[], None]
    """Called after every change of an observation."""
    datasets: DatasetFolders | None = None


class ReplicaLife:
    """One replica. The task of `start` or `take_over` watches it to its end."""

    def __init__(
        self, context: LifeContext, replica: str, demand: Demand, artifact: str = "", gpus: tuple[str, ...] = ()
    ) -> None:
        self.observation = ReplicaObservation(id=replica, stage=Stage.INSTALLING)
        self.demand = demand
        self.artifact = artifact
        self.gpus = gpus
        self.kind = WorkloadKind.SERVICE
        self.manifests: frozenset[str] = frozenset()
        """Digests of the manifests of the datasets that it reads."""
        self.data_dir = ""
        """The folder of its deployment."""
        self.task: asyncio.Task[None] | None = None
        self._context = context
        self._places = context.places
        self._launching: asyncio.Task[int] | None = None
        self._log_begin = 0
        self._keeper: int | None = None
        """Process of its log's keeper; None: an earlier driver object started it."""
        self._hidden: tuple[str, ...] = ()
        """Texts to hide in its log; empty for a replica that was taken over."""
        self._reason = ""
        """Why it ends, where its exit code does not say it."""
        self._over_memory = False

    @property
    def exited(self) -> bool:
        """Whether it has ended."""
        return self.observation.stage == Stage.EXITED

    @property
    def running(self) -> bool:
        """Whether its process exists."""
        return self.observation.stage == Stage.STARTING

    def start(self, workload: Workload) -> None:
        """Prepare and start it, and watch it to its end."""
        self.kind = workload.kind
        self.task = asyncio.create_task(self._live(workload))

    async def take_over(self, launch: Launch) -> bool:
        """Take it over from an earlier driver object: watch it, or find out how it ended. False: it never began."""
        self.kind = launch.kind
        self.observation = ReplicaObservation(id=launch.id, stage=Stage.EXITED)
        pid = await self._process()
        code, _ = exits.read_exit(self._places.exit_file(launch.id))
        if pid is not None and code is None:
            self._observe_running(launch, pid)
            self.task = asyncio.create_task(self._watch(pid))
        elif ended := exits.read_ended(self._places.ended_file(launch.id)):
            self.observation = ended
        else:
            await self._keeper_ended(_KEEPER_ENDS_S)  # it may be about to write the code
            code, _ = exits.read_exit(self._places.exit_file(launch.id))
            if code is None and self._never_began():
                return False
            self._reason = "" if code is not None else "It ended while no agent ran; its exit code is unknown."
            # Its process began right after its launch file was written.
            started_at = self._places.launch_file(launch.id).stat().st_mtime
            self.observation = self.observation.model_copy(update={"started_at": started_at})
            await self._record_end()
        return True

    def _never_began(self) -> bool:
        """Whether its process was not started: its lock is there from before the start, with its pid from then on."""
        lock = self._places.lock(self.observation.id)
        return lock.parent.is_dir() and not (lock.exists() and lock.stat().st_size)

    async def stop(self, grace_s: float) -> None:
        """End it, with so much time to drain. Raises `Unavailable` when its process does not end."""
        if self._launching:
            await asyncio.wait([self._launching])  # takes milliseconds; then its process can be ended
        if self.observation.stage == Stage.INSTALLING and self.task:
            self.task.cancel()
            self._observe(stage=Stage.EXITED, reason="Stopped before it began.")
        self._reason = self._reason or "It was stopped."
        lock, whole = self._places.lock(self.observation.id), self.kind is WorkloadKind.JOB
        await processes.stop(lock, grace_s, whole_session=whole)
        if self.task:
            await asyncio.wait([self.task])

    async def end_over_memory(self, used_bytes: int) -> None:
        """End it because it uses more memory than its limit."""
        if not self.running:
            return
        used_mib, limit_mib = used_bytes / 2**20, (self.demand.memory_bytes or 0) / 2**20
        self._reason = f"Killed: it used {used_mib:,.0f} MiB of memory, its limit is {limit_mib:,.0f} MiB."
        self._over_memory = True
        with contextlib.suppress(Unavailable):  # repeated at the next look
            await processes.stop(self._places.lock(self.observation.id), 0)

    async def _live(self, workload: Workload) -> None:
        def progress(text: str) -> None:
            if self.observation.stage == Stage.INSTALLING:
                self._observe(reason=text)

        try:
            prepared = await self._context.preparation.prepare(workload.spec.artifact, progress)
            inputs = await self._mounted(workload, progress)
            await processes.stop(self._places.lock(workload.spec.id), 0)  # what an earlier start left behind
            self._launching = asyncio.create_task(self._launch(workload, prepared, inputs))
            try:
                pid = await self._launching
            finally:
                self._launching = None
        except Exception as error:
            if not isinstance(error, KaonError | OSError):
                _log.exception("a replica cannot be started", replica=workload.spec.name)
            away = isinstance(error, Unavailable)
            self._observe(stage=Stage.EXITED, reason=exits.cannot_start(error), try_again=away)
        else:
            await self._watch(pid)

    async def _mounted(self, workload: Workload, progress: OnProgress) -> dict[str, str]:
        """The folders of its datasets, by name."""
        datasets, call = self._context.datasets, workload.launch.call
        if datasets is None:
            return {}
        versions = {use.name: use.version for use in workload.spec.datasets} | (call.inputs if call else {})
        return {name: str(await datasets.materialize(version, progress)) for name, version in versions.items()}

    async def _launch(self, workload: Workload, prepared: Prepared, inputs: Mapping[str, str]) -> int:
        launch = self._placed(workload, prepared, inputs)
        write_launch(self._places, launch)
        log_file = self._places.log_file(launch.id)
        self._log_begin = log_file.stat().st_size if log_file.exists() else 0
        self._hidden = tuple(form for value in workload.secrets.values() for form in log.forms(value))
        launch_file = str(self._places.launch_file(launch.id))
        pid, self._keeper = await start_replica(
            self._places,
            launch,
            [str(prepared.python), "-P", "-s", *self._context.runtime, "--launch", launch_file],
            launch.environment(base_environment(launch.data_dir)) | gpu_variables(launch.gpus),
            workload.secrets,
            self._hidden,
        )
        self._observe_running(launch, pid)
        return pid

    def _placed(self, workload: Workload, prepared: Prepared, inputs: Mapping[str, str]) -> Launch:
        """The launch of the workload on this machine."""
        spec, places = workload.spec, self._places
        assert prepared.manifest is not None
        service = prepared.manifest.service
        # The variables of a deployment cannot choose its GPUs.
        env = {name: value for name, value in workload.launch.env.items() if name not in gpu_variables(self.gpus)}
        return Launch(
            **dict(workload.launch.model_copy(update={"env": env})),
            entry=(workload.launch.call and workload.launch.call.entry) or service.entry,
            loop=service.loop,
            code_dir=str(prepared.code_dir),
            service_address=f"unix:{places.service_socket(spec.id)}",
            control_address=f"unix:{places.control_socket(spec.id)}",
            data_dir=str(private_folder(places.volume(spec.workspace, spec.deployment, spec.deployment_uid))),
            flights_file=str(places.flights(spec.id)),
            uses_any=service.uses is None,
            gpus=self.gpus,
            job_dir=self._job_dir(spec.id) if spec.kind is WorkloadKind.JOB else "",
            inputs=dict(inputs),
        )

    def _job_dir(self, replica: str) -> str:
        """The empty folder of a job."""
        folder = self._places.job_dir(replica)
        if folder.exists():
            archive.remove(folder)
        return str(private_folder(folder))

    async def _watch(self, pid: int) -> None:
        """Watch its process to its end."""
        id_, left = self.observation.id, ""
        keeping = asyncio.create_task(self._restart_keeper())
        try:
            await processes.ended(pid)
            await processes.stop(self._places.lock(id_), 0)  # children of it that left its session
        except Unavailable as error:
            left = f" {error.cause}"
        finally:
            keeping.cancel()
        await self._keeper_ended(_KEEPER_ENDS_S)
        await self._record_end(left)

    async def _restart_keeper(self) -> None:
        """Start the keeper of its log again whenever it has ended."""
        while True:
            await self._keeper_ended(None)
            await self._context.clock.sleep(_KEEPER_AGAIN_S)
            with contextlib.suppress(KaonError, OSError):  # repeated in a second
                self._keeper = start_keeper(self._places, self.observation.id, self._hidden)

    async def _keeper_ended(self, timeout_s: float | None) -> None:
        await processes.gone(self._places.log_lock(self.observation.id), timeout_s)
        if self._keeper is not None:
            processes.exit_code(self._keeper)  # reaps it

    async def _record_end(self, left: str = "") -> None:
        """Report its end, and record it for the next driver object; `left` names processes that did not end with it."""
        id_ = self.observation.id
        code, ended_at = exits.read_exit(self._places.exit_file(id_))
        log_file, begin = self._places.log_file(id_), self._log_begin
        written = await self._context.threads.run(lambda: logs.last_lines(log_file, _SEARCHED_LINES, since_byte=begin))
        last = logs.excerpt(written, _LAST_LINES)
        at_fault = self._over_memory or not (self._reason or code == 0 or processes.ended_from_outside(code))
        blamed = flights_in(self._places.flights(id_)) if at_fault else ()
        self._observe(
            stage=Stage.EXITED,
            exit_code=code,
            ended_at=self._context.clock.now() if ended_at is None else ended_at,
            last_lines=last,
            reason=(self._reason or exits.reason(code, last)) + left,
            blamed=tuple(flight.request_id for flight in blamed),
        )
        exits.write_ended(self._places.ended_file(id_), self.observation)

    async def _process(self) -> int | None:
        """Its process; for the moment of its start its parent, the keeper, holds its lock."""
        lock, log_lock = self._places.lock(self.observation.id), self._places.log_lock(self.observation.id)
        while True:
            pid, parent = await self._context.threads.run(lambda: (leader(lock), leader(log_lock)))
            if pid is None or pid != parent:
                return pid
            await self._context.clock.sleep(_PARENT_POLL_S)

    def _observe_running(self, launch: Launch, pid: int) -> None:
        self._observe(
            stage=Stage.STARTING,
            reason="",
            pid=pid,
            started_at=proc.started_at(pid),
            service_address=launch.service_address if launch.kind is WorkloadKind.SERVICE else None,
            control_address=launch.control_address if launch.kind is WorkloadKind.SERVICE else None,
        )

    def _observe(self, **changes: object) -> None:
        self.observation = self.observation.model_copy(update=changes)
        self._context.changed()


def flights_in(file: Path) -> tuple[Flight, ...]:
    """The calls in flight that a replica recorded; none without a file."""
    try:
        with file.open("rb") as opened:
            return flights(opened.read(FILE_BYTES), time.monotonic())
    except OSError:
        return ()
