"""The port between an agent and the place where replicas run.

A driver decides nothing: it starts and stops replicas on request, and reports their state. Replicas outlive the agent:
a new driver object over the same place finds them all again, with the exit codes of those that ended meanwhile.

Every method but `capabilities` may fail, and the class of the error decides what the agent does:

    PlaceFull          no capacity for another replica    start it again later
    PlaceUnavailable   the place cannot be reached        replicas may still run there; repeat the call later
    WorkloadRefused    impossible with this spec          do not start it again

Each call may be repeated: after `PlaceUnavailable` it is unknown whether it had an effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import Field

from kaon import log
from kaon.types.dataset import DatasetVersionRef
from kaon.types.flight import Flight
from kaon.types.launch import LaunchSpec
from kaon.types.log_level import LogLevel
from kaon.types.model import Address, Model
from kaon.types.place import PlaceHealth
from kaon.types.replica import ReplicaSpec, WorkloadKind


class Stage(StrEnum):
    """The stage of a replica at its driver."""

    WAITING = "Waiting"
    """The place has no capacity yet, and starts the replica once it has."""
    INSTALLING = "Installing"
    STARTING = "Starting"
    """The process exists; the process itself reports whether it is ready."""
    EXITED = "Exited"


class ReplicaObservation(Model):
    """The state of one replica, as its driver observes it."""

    id: str
    stage: Stage
    reason: str = ""
    pid: int | None = None
    started_at: float | None = Field(default=None, description="Epoch seconds.")
    ended_at: float | None = Field(default=None, description="Epoch seconds.")
    try_again: bool = Field(
        default=False, description="Its process never began since something could not be reached: start it again."
    )
    exit_code: int | None = Field(default=None, description="Negative: by that signal; None when unknown.")
    last_lines: tuple[str, ...] = ()
    blamed: tuple[str, ...] = Field(
        default=(),
        description="Ids of requests in flight when it ended by a fault of its own; see kaon.agent.decide.poison.",
    )
    service_address: Address | None = Field(default=None, description="None for a job, which takes no calls.")
    control_address: Address | None = Field(default=None, description="None for a job.")


@dataclass(frozen=True)
class PlaceObservation:
    """All replicas of a place, ended ones included until `forget`. `version` changes with every change of them."""

    version: int = 0
    replicas: Mapping[str, ReplicaObservation] = field(default_factory=dict)


class Mount(Model):
    """A folder that is mounted into a workload."""

    source: str = Field(description="Where it is in the place.")
    path: str = Field(description="Where the workload finds it.")
    read_only: bool = True


class Workload(Model):
    """What it takes to run one replica: all that a driver is given."""

    spec: ReplicaSpec
    launch: LaunchSpec
    secrets: dict[str, str] = Field(default_factory=dict, repr=False, description="Environment variable -> value.")
    mounts: tuple[Mount, ...] = ()

    @property
    def kind(self) -> WorkloadKind:
        """Whether it answers calls until it is stopped, or ends by itself."""
        return self.spec.kind


class Addresses(StrEnum):
    """How a place's replicas are reached."""

    SOCKET = "socket"
    """Unix sockets that only their owner may open."""
    TCP = "tcp"
    """Ports that others may reach: control addresses require a token."""


class Capabilities(Model):
    """What a place can do. It does not change while the driver lives."""

    addresses: Addresses
    mounts: bool = Field(default=False, description="Workloads may have mounts.")
    gpus: bool = Field(default=False, description="Workloads may have GPUs of their own.")
    exec: bool = Field(default=False, description="Programs can be run in a replica's environment.")
    logs: bool = Field(default=True, description="Logs of replicas can be read.")


Fetch = Callable[[str], Awaitable[Path]]
"""Digest -> a new local file with the artifact's bytes, which the driver deletes once it is unpacked."""


class DatasetFolders(Protocol):
    """Versions of datasets as read-only folders of this machine: `kaon.datasets.cache.DatasetCache`."""

    async def materialize(self, ref: DatasetVersionRef, progress: Callable[[str], None]) -> Path:
        """The folder of a version's files, fetched when it is missing. Raises a `KaonError`, OSError."""
        ...

    async def prune(self, used: set[str], keep: int) -> None:
        """Remove versions that are neither in `used` (digests of manifests) nor among the last `keep` that were."""
        ...


class LogLine(Model):
    """One line that a replica wrote."""

    replica: str
    text: str
    at: float | None = None

    def matches(self, *, oldest: float | None, grep: str | None, level: LogLevel | None) -> bool:
        """Whether it passes all filters. Lines of unknown age pass `oldest`; those without a level fail `level`."""
        if oldest is not None and self.at is not None and self.at < oldest:
            return False
        return (not grep or grep in self.text) and (level is None or log.is_at_least(self.text, level))


class Driver(Protocol):
    """Starts, stops and observes replicas. All methods may be called by several tasks at once."""

    def capabilities(self) -> Capabilities:
        """What this place can do."""
        ...

    async def health(self) -> PlaceHealth:
        """The state of the place, and how much of it is in use."""
        ...

    async def start(self, workload: Workload) -> None:
        """Begin to start a replica and return; `observe` shows its progress.

        A running replica of that id is not changed; one that has ended is started anew. A later failure is the reason
        of an `EXITED` observation.
        """
        ...

    async def stop(self, replica: str, grace_s: float) -> None:
        """Let the replica drain for up to `grace_s`, then end it and all that it started. Idempotent."""
        ...

    async def observe(self) -> PlaceObservation:
        """All replicas of this place. Cheap and without side effects, for any number of readers."""
        ...

    async def changed(self, after: int) -> None:
        """Return when the observation's version is no longer `after`. It may return early."""
        ...

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        """The calls in flight that the replica recorded; read without the replica, which may be busy."""
        ...

    async def show_stacks(self, replica: str) -> None:
        """Make a replica write the stacks of its threads to its log, if it still can. Idempotent."""
        ...

    async def forget(self, replica: str) -> None:
        """Delete the files of a replica that has ended, except for its logs, which stay a while. Idempotent."""
        ...

    def job_dir(self, replica: str) -> Path:
        """The folder of a job (see `kaon.runtime.job`), for the agent to read; it exists from the start to `forget`."""
        ...

    def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """The replica's last `tail` lines, then new ones as they come when `follow`."""
        ...
