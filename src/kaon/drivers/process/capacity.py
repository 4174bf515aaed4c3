"""Whether one more replica fits on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kaon.errors import Unavailable
from kaon.types.model import Model

CPU_OVERCOMMIT = 16.0
"""CPUs that may be promised for each one that there is: they are shares, and most replicas wait most of the time."""

MEMORY_OVERCOMMIT = 1.0
"""Memory that may be promised for each byte that there is: a limit that may be reached must be there."""

UNLIMITED_BYTES = 64 * 2**20
"""What a replica without a memory limit is counted as: about what an idle one uses."""


class Demand(Model):
    """What one replica was promised."""

    cpus: float
    memory_bytes: int | None = None


class Machine(Model):
    """What there is to promise."""

    cpus: float
    memory_bytes: int


def this_machine() -> Machine:
    """The CPUs that this process may use, and the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(cpus=len(os.sched_getaffinity(0)), memory_bytes=memory)


def check_room(machine: Machine, promised: Iterable[Demand], wanted: Demand) -> None:
    """Raise `Unavailable` when `wanted` does not fit beside what was promised already."""
    all_of_them = [*promised, wanted]
    cpus, memory = sum(d.cpus for d in all_of_them), sum(_bytes(d) for d in all_of_them)
    if cpus > machine.cpus * CPU_OVERCOMMIT:
        raise Unavailable(
            f"No CPUs left: {cpus:g} would be promised, {machine.cpus * CPU_OVERCOMMIT:g} is the most here.",
            hint="Lower the replicas' cpus, scale something down, or add a machine.",
        )
    if memory > machine.memory_bytes * MEMORY_OVERCOMMIT:
        raise Unavailable(
            f"No memory left: {memory / 2**20:,.0f} MiB would be promised,"
            f" {machine.memory_bytes * MEMORY_OVERCOMMIT / 2**20:,.0f} MiB is the most here.",
            hint="Lower the replicas' memory, scale something down, or add a machine.",
        )


def _bytes(demand: Demand) -> int:
    return UNLIMITED_BYTES if demand.memory_bytes is None else demand.memory_bytes
