"""What an agent asks of the place where replicas run.

A driver holds no wishes and decides nothing: it starts what it is told, stops what it is told, and says
what it sees. Replicas outlive the agent: a new driver object over the same place sees them all again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import Field

from kaon.types.flight import Flight
from kaon.types.key import Access
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.model import Address, Model
from kaon.types.replica import ReplicaSpec


class Stage(StrEnum):
    """How far a driver got with a replica."""

    INSTALLING = "Installing"
    STARTING = "Starting"
    """The process exists; whether it is ready is asked of the process itself."""
    EXITED = "Exited"


class Sighting(Model):
    """What a driver sees of one replica."""

    id: str
    stage: Stage
    reason: str = ""
    pid: int | None = None
    started_at: float | None = Field(default=None, description="Epoch seconds.")
    exit_code: int | None = Field(default=None, description="Negative: by that signal; None when unknown.")
    last_lines: tuple[str, ...] = ()
    blamed: tuple[str, ...] = Field(
        default=(), description="Ids of requests in flight when it ended by a fault of its own; see kaon.agent.poison."
    )
    service_address: Address | None = None
    control_address: Address | None = None


class Start(Model):
    """What it takes to start one replica."""

    replica: ReplicaSpec
    access: Access = Access()
    knobs: Knobs = AS_THE_CLASS_SAYS
    prefix: str = "/"
    edge_url: str = ""


Fetch = Callable[[str], Awaitable[Path]]
"""Digest -> a new local file with the artifact's bytes. It is the driver's, which deletes it when it is unpacked."""


class LogLine(Model):
    """One line that a replica wrote."""

    replica: str
    text: str
    at: float | None = None


class Driver(Protocol):
    """Starts, stops and sees replicas."""

    async def start(self, start: Start, secrets: dict[str, str]) -> None:
        """Begin to start a replica and return; `observe` tells how it goes.

        A replica of that id that already runs is left alone; one that has ended is started anew. Raises
        `Unavailable` when the place is full. What goes wrong later is the reason of an `EXITED` sighting.
        """
        ...

    async def stop(self, replica: str, grace_s: float) -> None:
        """Ask the replica to drain, wait up to `grace_s`, then end it and all that it started. Idempotent."""
        ...

    async def observe(self) -> dict[str, Sighting]:
        """Every replica that this place knows of, by id, those that ended included until `forget`."""
        ...

    async def changed(self) -> None:
        """Return when `observe` may tell something else than when it was last asked. It may return early."""
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
