"""What an agent asks of the place where replicas run.

A driver decides nothing: it starts what it is given, stops what it is asked to, and reports what it finds. Replicas
outlive the agent: a new driver object over the same place finds them all again, and so it finds the exit codes of
those that ended meanwhile.

Every method but `capabilities` may fail, and its error says what the agent is to do:

    PlaceFull          no room for one more now       try the start again later
    PlaceUnavailable   the place cannot be reached    what runs there may run on; ask again later
    WorkloadRefused    never possible as it is        do not try again

Each call may be repeated: after `PlaceUnavailable` nobody knows whether it was done.
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
    """How far a driver got with a replica."""

    WAITING = "Waiting"
    """The place has no room yet, and will start it when there is some."""
    INSTALLING = "Installing"
    STARTING = "Starting"
    """The process exists; whether it is ready is asked of the process itself."""
    EXITED = "Exited"


class ReplicaObservation(Model):
    """What a driver sees of one replica."""

    id: str
    stage: Stage
    reason: str = ""
    pid: int | None = None
    started_at: float | None = Field(default=None, description="Epoch seconds.")
    exit_code: int | None = Field(default=None, description="Negative: by that signal; None when unknown.")
    last_lines: tuple[str, ...] = ()
    blamed: tuple[str, ...] = Field(
        default=(),
        description="Ids of requests in flight when it ended by a fault of its own; see kaon.agent.decide.poison.",
    )
    service_address: Address | None = Field(default=None, description="None of a job: nobody calls it.")
    control_address: Address | None = None


@dataclass(frozen=True)
class PlaceObservation:
    """All replicas of a place, those that ended included until `forget`. Another `version` means other replicas."""

    version: int = 0
    replicas: Mapping[str, ReplicaObservation] = field(default_factory=dict)


class Mount(Model):
    """A folder that a workload finds at a path of its own."""

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
    """Ports that others may reach: control addresses ask for a token."""


class Capabilities(Model):
    """What a place can do. It does not change while the driver lives."""

    addresses: Addresses
    mounts: bool = Field(default=False, description="Workloads may have mounts.")
    gpus: bool = Field(default=False, description="Workloads may have GPUs of their own.")
    exec: bool = Field(default=False, description="Programs can be run beside a replica, in its surroundings.")
    logs: bool = Field(default=True, description="What replicas write can be read.")


Fetch = Callable[[str], Awaitable[Path]]
"""Digest -> a new local file with the artifact's bytes. It is the driver's, which deletes it when it is unpacked."""


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
        """Whether it passes all filters. Lines of unknown age are never too old; lines without a level have none."""
        if oldest is not None and self.at is not None and self.at < oldest:
            return False
        return (not grep or grep in self.text) and (level is None or log.is_at_least(self.text, level))


class Driver(Protocol):
    """Starts, stops and observes replicas. All methods may be called by several tasks at once."""

    def capabilities(self) -> Capabilities:
        """What this place can do."""
        ...

    async def health(self) -> PlaceHealth:
        """How the place itself is, and how much of it is in use."""
        ...

    async def start(self, workload: Workload) -> None:
        """Begin to start a replica and return; `observe` shows how it goes.

        A replica of that id that already runs is left alone; one that has ended is started anew. What goes wrong later
        is the reason of an `EXITED` observation.
        """
        ...

    async def stop(self, replica: str, grace_s: float) -> None:
        """Ask the replica to drain, wait up to `grace_s`, then end it and all that it started. Idempotent."""
        ...

    async def observe(self) -> PlaceObservation:
        """The replicas that this place has. Cheap; it changes nothing, and any number of readers may ask at once."""
        ...

    async def changed(self, after: int) -> None:
        """Return when the observation's version is not `after` any more. It may return early."""
        ...

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        """The calls in flight as the replica noted them; it is not asked, so it may be busy. None known: none."""
        ...

    async def show_stacks(self, replica: str) -> None:
        """Have the stacks of a replica's threads written to its log, as far as it can still do that. Idempotent."""
        ...

    async def forget(self, replica: str) -> None:
        """Drop what is kept of a replica that has ended; its logs stay until they are old. Idempotent."""
        ...

    def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """The replica's last `tail` lines, then new ones as they come when `follow`."""
        ...
