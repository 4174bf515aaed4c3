"""Starts, stops and sees replicas that are processes of this machine.

A replica's life here: `INSTALLING` while its artifact and environment are made ready, `STARTING` from the
moment at which its process holds its lock, `EXITED` when that has ended. What a later driver object needs to
find a replica again is on disk before the process begins: its launch file. So each lock that is held without a
launch file is a replica that was being forgotten, and is ended.

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
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kaon import log, processes
from kaon.clock import Clock
from kaon.drivers.port import Fetch, LogLine, Sighting, Stage, Start
from kaon.drivers.process import keeper, logs
from kaon.drivers.process.capacity import Demand, check_room, free_gpus, gpu_variables, this_machine
from kaon.drivers.process.places import Places, private_folder
from kaon.drivers.process.preparation import Preparation, Prepared
from kaon.drivers.process.pruning import KEEP, Keep, prune
from kaon.errors import KaonError, Unavailable
from kaon.sdk.environments import Environments
from kaon.types.flight import FILE_BYTES, Flight, flights
from kaon.types.launch import EXIT_CONFIG, PASSED_ON, STACKS_SIGNAL, Launch

RUNTIME = ("-m", "kaon.runtime")
"""What python is given to run a replica."""

_CONFIG_ERROR = "ConfigError: "  # how the runtime's last line begins when it ends with that exit code
_MEMORY_WATCH_S = 0.5
_STACKS_S = 0.5
"""How long a replica gets to write its stacks; it takes milliseconds, unless the machine is busy."""

_LAST_LINES = 20
_LOOKED_AT = 400  # lines in which a crash is looked for: it tells the stacks of all threads
_REASON_MOST = 200
_LIMITS = processes.Limits(open_files=65_536, oom_score_adj=500)
_PRUNE_EVERY_S = 600.0
_LOG_BYTES = str(10 * 2**20)  # a log is rotated at this size
_KEEPER_AGAIN_S = 1.0
_LAST_WORDS_S = 5.0  # the keeper of a log ends within milliseconds of its last writer

_log = log.get("drivers.process")


@dataclass
class _Replica:
    """What this driver object knows of a replica. `life` prepares, starts and then watches it."""

    sighting: Sighting
    demand: Demand
    artifact: str = ""
    gpus: tuple[str, ...] = ()
    life: asyncio.Task[None] | None = None
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
        keep: Keep = KEEP,
    ) -> None:
        """`home` keeps artifacts, environments, logs and volumes; `run_dir` locks and sockets; `runtime` is what
        python is given to run a replica; `devices` has a file for each GPU; `keep` is what stays though unused."""
        self._places = Places(home, run_dir)
        self._environments = Environments(self._places.environments)
        self._preparation = Preparation(self._places, fetch, self._environments)
        self._clock = clock
        self._runtime = tuple(runtime)
        self._devices = devices
        self._keep = keep
        self._replicas: dict[str, _Replica] = {}
        self._adoption: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._pruned_at = clock.monotonic()

    async def start(self, start: Start, secrets: dict[str, str]) -> None:
        await self._adopted()
        spec = start.replica
        known = self._replicas.get(spec.id)
        if known and known.sighting.stage != Stage.EXITED:
            return
        wants = spec.resources
        demand = Demand(cpus=wants.cpus, memory_bytes=wants.memory_bytes, gpus=wants.gpus)
        running = [r for r in self._replicas.values() if r.sighting.stage != Stage.EXITED]
        machine = this_machine(self._devices, os.environ)
        check_room(machine, (r.demand for r in running), demand)
        gpus = free_gpus(machine, {gpu for r in running for gpu in r.gpus}, demand.gpus)
        for value in secrets.values():
            log.hide_secret(value)
        replica = _Replica(Sighting(id=spec.id, stage=Stage.INSTALLING), demand, spec.artifact, gpus)
        self._replicas[spec.id] = replica
        self._news.set()
        replica.life = asyncio.create_task(self._live(replica, start, secrets))

    async def stop(self, replica: str, grace_s: float) -> None:
        await self._adopted()
        known = self._replicas.get(replica)
        if known and known.sighting.stage == Stage.INSTALLING and known.life:
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
        if known and known.sighting.stage == Stage.STARTING:
            processes.send(self._places.lock(replica), STACKS_SIGNAL)
            await self._clock.sleep(_STACKS_S)

    async def observe(self) -> dict[str, Sighting]:
        await self._adopted()
        self._news.clear()
        return {id_: replica.sighting for id_, replica in self._replicas.items()}

    async def changed(self) -> None:
        await self._news.wait()

    async def forget(self, replica: str) -> None:
        await self._adopted()
        known = self._replicas.get(replica)
        if known and known.sighting.stage != Stage.EXITED:
            return
        await processes.stop(self._places.lock(replica), 0)
        await processes.stop(self._places.log_lock(replica), 0)
        self._places.launch_file(replica).unlink(missing_ok=True)
        shutil.rmtree(self._places.sockets(replica), ignore_errors=True)
        self._replicas.pop(replica, None)
        if self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY_S:
            self._pruned_at = self._clock.monotonic()
            used = {kept.artifact for kept in self._replicas.values()}
            now = self._clock.now()
            await self._preparation.in_thread(lambda: prune(self._places, self._environments, used, now, self._keep))

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        at: float | None = None
        async for line in logs.follow(self._places.log_file(replica), tail, self._clock, on=follow):
            text = logs.readable(line)
            at = logs.stamp(text) or at
            yield LogLine(replica=replica, text=text, at=at)

    async def close(self) -> None:
        """Stop watching. Replicas run on; what was only being installed is given up."""
        lives = [r.life for r in self._replicas.values() if r.life]
        for life in [*lives, *([self._adoption] if self._adoption else [])]:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    # A replica's life

    async def _live(self, replica: _Replica, start: Start, secrets: dict[str, str]) -> None:
        try:
            prepared = await self._preparation.prepare(start.replica.artifact)
            await processes.stop(self._places.lock(start.replica.id), 0)  # what an earlier start left behind
            pid = self._launch(replica, start, secrets, prepared)
        except Exception as error:
            if not isinstance(error, KaonError | OSError):
                _log.exception("a replica cannot be started", replica=start.replica.name)
            self._see(replica, stage=Stage.EXITED, reason=_cannot_start(error))
        else:
            await self._watch(replica, pid)

    def _launch(self, replica: _Replica, start: Start, secrets: dict[str, str], prepared: Prepared) -> int:
        launch = self._launch_of(start, prepared, replica.gpus)
        folder = self._places.sockets(launch.id)
        shutil.rmtree(folder, ignore_errors=True)
        private_folder(folder)
        launch_file = self._places.launch_file(launch.id)
        _write_private(launch_file, launch.model_dump_json(indent=1))
        log_file = self._places.log_file(launch.id)
        replica.log_from = log_file.stat().st_size if log_file.exists() else 0
        replica.hidden = tuple(form for value in secrets.values() for form in log.forms(value))
        os.mkfifo(self._places.log_pipe(launch.id), 0o600)
        with _opened(self._places.log_pipe(launch.id), os.O_RDWR) as output:  # both ways: it never breaks
            self._start_keeper(replica)
            pid = processes.spawn(
                [
                    str(prepared.python),
                    "-P",
                    "-s",
                    *self._runtime,
                    "--launch",
                    str(self._places.launch_file(launch.id)),
                ],
                lock=self._places.lock(launch.id),
                env=launch.environment(_base(launch.data_dir)) | gpu_variables(launch.gpus),
                cwd=prepared.code_dir,
                log=output,
                stdin=json.dumps(secrets).encode(),
                limits=_LIMITS,
            )
        self._see_running(replica, launch, pid)
        return pid

    def _start_keeper(self, replica: _Replica) -> None:
        """Start the process that writes the replica's log, unless it runs."""
        id_ = replica.sighting.id
        with _opened(self._places.log_pipe(id_), os.O_RDONLY | os.O_NONBLOCK) as pipe:
            replica.keeper = processes.spawn(
                [sys.executable, "-I", "-S", keeper.__file__, str(pipe), str(self._places.log_file(id_)), _LOG_BYTES],
                lock=self._places.log_lock(id_),
                env={},
                stdin=json.dumps(replica.hidden).encode(),
                pass_fds=(pipe,),
            )

    async def _keeper_gone(self, replica: _Replica, timeout_s: float | None) -> None:
        await processes.gone(self._places.log_lock(replica.sighting.id), timeout_s)
        if replica.keeper is not None:
            processes.exit_code(replica.keeper)  # reaps it

    async def _keep_log(self, replica: _Replica) -> None:
        """Start the keeper again whenever it has ended."""
        while True:
            await self._keeper_gone(replica, None)
            await self._clock.sleep(_KEEPER_AGAIN_S)
            with contextlib.suppress(KaonError, OSError):  # tried again in a second
                self._start_keeper(replica)

    def _launch_of(self, start: Start, prepared: Prepared, gpus: tuple[str, ...]) -> Launch:
        spec, places = start.replica, self._places
        private_folder(places.replica(spec.id))
        return Launch(
            id=spec.id,
            name=spec.name,
            workspace=spec.workspace,
            deployment=spec.deployment,
            revision=spec.revision,
            entry=prepared.entry,
            loop=prepared.loop,
            code_dir=str(prepared.code_dir),
            service_address=f"unix:{places.service_socket(spec.id)}",
            control_address=f"unix:{places.control_socket(spec.id)}",
            # Which GPUs it sees is not for the deployment to say: others may have them.
            env={name: value for name, value in spec.env.items() if name not in gpu_variables(gpus)},
            access=start.access,
            knobs=start.knobs,
            prefix=start.prefix,
            edge_url=start.edge_url,
            data_dir=str(private_folder(places.volume(spec.workspace, spec.deployment, spec.deployment_uid))),
            flights_file=str(places.flights(spec.id)),
            uses_any=prepared.uses_any,
            cpus=spec.resources.cpus,
            gpus=gpus,
            memory_bytes=spec.resources.memory_bytes,
            drain_s=spec.drain_s,
        )

    async def _watch(self, replica: _Replica, pid: int) -> None:
        """See a process to its end, and keep it to its memory."""
        id_, left = replica.sighting.id, ""
        watching = [asyncio.create_task(self._keep_log(replica))]
        if replica.demand.memory_bytes:
            watching.append(asyncio.create_task(self._keep_memory(replica, pid)))
        try:
            code = await processes.ended(pid)
            await processes.stop(self._places.lock(id_), 0)  # children of it that left its session
        except Unavailable as error:
            code, left = processes.exit_code(pid), f" {error.cause}"
        finally:
            for task in watching:
                task.cancel()
        await self._keeper_gone(replica, _LAST_WORDS_S)
        log_file = self._places.log_file(id_)
        written = await asyncio.to_thread(logs.last_lines, log_file, _LOOKED_AT, since_byte=replica.log_from)
        last = logs.excerpt(written, _LAST_LINES)
        at_fault = replica.over_memory or not (replica.why or code == 0 or processes.ended_from_outside(code))
        self._see(
            replica,
            stage=Stage.EXITED,
            exit_code=code,
            last_lines=last,
            reason=(replica.why or _reason(code, last)) + left,
            blamed=tuple(flight.request_id for flight in _flights(self._places.flights(id_))) if at_fault else (),
        )

    async def _keep_memory(self, replica: _Replica, pid: int) -> None:
        limit = replica.demand.memory_bytes or 0
        while True:
            if used := await asyncio.to_thread(processes.memory_over, pid, limit):
                used_mib, limit_mib = used / 2**20, limit / 2**20
                replica.why = f"Killed: it used {used_mib:,.0f} MiB of memory, its limit is {limit_mib:,.0f} MiB."
                replica.over_memory = True
                with contextlib.suppress(Unavailable):  # it does not end yet; it is tried again
                    await processes.stop(self._places.lock(replica.sighting.id), 0)
            await self._clock.sleep(_MEMORY_WATCH_S)

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
                self._replicas[id_] = self._adopt_one(launch)
        strangers = [id_ for id_ in self._places.locked() if id_ not in self._replicas]
        await asyncio.gather(*(self._end_stranger(id_) for id_ in strangers))

    async def _end_stranger(self, id_: str) -> None:
        try:
            await processes.stop(self._places.lock(id_), 0)
        except Unavailable as error:  # a start of a replica of that id will say so
            _log.warning("a process of an earlier agent cannot be ended", replica=id_, error=error.cause)
            return
        shutil.rmtree(self._places.sockets(id_), ignore_errors=True)

    def _adopt_one(self, launch: Launch) -> _Replica:
        demand = Demand(cpus=launch.cpus, memory_bytes=launch.memory_bytes, gpus=len(launch.gpus))
        digest = f"sha256:{Path(launch.code_dir).parent.name}"
        replica = _Replica(Sighting(id=launch.id, stage=Stage.EXITED), demand, digest, launch.gpus)
        pid = processes.leader(self._places.lock(launch.id))
        if pid is None:
            last = logs.excerpt(logs.last_lines(self._places.log_file(launch.id), _LOOKED_AT), _LAST_LINES)
            self._see(replica, reason="It ended while no agent watched.", last_lines=last)
        else:
            self._see_running(replica, launch, pid)
            replica.life = asyncio.create_task(self._watch(replica, pid))
        return replica

    # What is seen

    def _see_running(self, replica: _Replica, launch: Launch, pid: int) -> None:
        self._see(
            replica,
            stage=Stage.STARTING,
            pid=pid,
            started_at=processes.started_at(pid),
            service_address=launch.service_address,
            control_address=launch.control_address,
        )

    def _see(self, replica: _Replica, **changes: object) -> None:
        replica.sighting = replica.sighting.model_copy(update=changes)
        self._news.set()


def _base(data_dir: str) -> dict[str, str]:
    """What every replica's process inherits: nothing of the platform's own settings is in it."""
    passed_on = {name: value for name in PASSED_ON if (value := os.environ.get(name)) is not None}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed_on, "HOME": data_dir, "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_private(path: Path, text: str) -> None:
    """Replace a file in one step; its owner alone may read it."""
    beside = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def _flights(file: Path) -> tuple[Flight, ...]:
    """What a replica noted of its calls in flight; nothing, when it noted none."""
    try:
        with file.open("rb") as opened:
            return flights(opened.read(FILE_BYTES), time.monotonic())
    except OSError:
        return ()


def _cannot_start(error: Exception) -> str:
    if isinstance(error, KaonError):
        return error.cause
    return f"It cannot be started: {str(error) or type(error).__name__}."


def _reason(code: int | None, last_lines: tuple[str, ...]) -> str:
    match code:
        case None:
            return "It ended; its exit code is unknown."
        case 0:
            return "It ended by itself."
        case _ if code == EXIT_CONFIG:
            said = [line for line in last_lines if line.startswith(_CONFIG_ERROR)]
            return said[-1].removeprefix(_CONFIG_ERROR) if said else "It cannot start as configured."
        case _ if code < 0:
            site = logs.crash_site(last_lines)
            return f"It was killed by {_signal_name(-code)}{': ' if site else ''}{site}."
        case _:
            words = f": {last_lines[-1].strip()[:_REASON_MOST]}" if last_lines else "."
            return f"It ended with exit code {code}{words}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name of their own
        return f"signal {number}"
