"""Whether one more replica fits on this machine, and which GPUs it gets."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from kaon.errors import PlaceFull
from kaon.types.model import Model
from kaon.types.place import Capacity

CPU_OVERCOMMIT = 16.0
"""CPUs that may be promised for each existing one: they are shares, and most replicas are idle most of the time."""

MEMORY_OVERCOMMIT = 1.0
"""Memory that may be promised for each existing byte: replicas may use all memory up to their limits."""

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

UNLIMITED_BYTES = 64 * 2**20
"""The memory counted for a replica without a limit: about what an idle one uses."""


class Demand(Model):
    """The resources promised to one replica."""

    cpus: float
    memory_bytes: int | None = None
    gpus: int = 0


class Machine(Model):
    """The resources of a machine."""

    cpus: float
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    """CUDA's names of them."""


def this_machine(devices: Path, environment: Mapping[str, str]) -> Machine:
    """The resources that this process may use: its CPUs, the machine's memory, and the GPUs with a device file.

    `devices` is /dev; `environment` is that of this process, and may hide GPUs.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(cpus=len(os.sched_getaffinity(0)), memory_bytes=memory, gpus=_gpus(devices, environment))


def _gpus(devices: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    count = sum(file.name.removeprefix("nvidia").isdecimal() for file in devices.glob("nvidia*"))
    visible = environment.get(VISIBLE_GPUS)
    if visible is None or not count:
        return tuple(str(number) for number in range(count))
    # CUDA reads the list up to the first invalid name; "-1" is no GPU at all.
    names = takewhile(lambda name: name and not name.startswith("-"), visible.replace(" ", "").split(","))
    return tuple(dict.fromkeys(names))[:count]


def gpu_variables(gpus: Iterable[str]) -> dict[str, str]:
    """The variables with which a process can use exactly these GPUs; an empty list hides all of them."""
    return {VISIBLE_GPUS: ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def free_gpus(machine: Machine, taken: Collection[str], count: int) -> tuple[str, ...]:
    """`count` free GPUs. Raises `PlaceFull` when there are fewer."""
    free = [gpu for gpu in machine.gpus if gpu not in taken]
    if count > len(free):
        have = f"{len(free)} of {len(machine.gpus)} GPUs are free here" if machine.gpus else "this machine has no GPU"
        raise PlaceFull(
            f"No GPUs left: {count} wanted, {have}.",
            hint="Lower the replicas' gpus, scale something down, or add a machine with GPUs.",
        )
    return tuple(free[:count])


def check_room(machine: Machine, promised: Iterable[Demand], wanted: Demand) -> None:
    """Raises `PlaceFull` when `wanted` does not fit in what is not yet promised."""
    all_of_them = [*promised, wanted]
    cpus, memory = sum(d.cpus for d in all_of_them), sum(_bytes(d) for d in all_of_them)
    if cpus > machine.cpus * CPU_OVERCOMMIT:
        raise PlaceFull(
            f"No CPUs left: {cpus:g} would be promised, {machine.cpus * CPU_OVERCOMMIT:g} is the most here.",
            hint="Lower the replicas' cpus, scale something down, or add a machine.",
        )
    if memory > machine.memory_bytes * MEMORY_OVERCOMMIT:
        raise PlaceFull(
            f"No memory left: {memory / 2**20:,.0f} MiB would be promised,"
            f" {machine.memory_bytes * MEMORY_OVERCOMMIT / 2**20:,.0f} MiB is the most here.",
            hint="Lower the replicas' memory, scale something down, or add a machine.",
        )


def totals(machine: Machine, promised: Sequence[Demand]) -> tuple[Capacity, Capacity]:
    """The resources that are promised, and those that are free."""
    used = Capacity(
        cpus=sum(d.cpus for d in promised),
        memory_bytes=sum(_bytes(d) for d in promised),
        gpus=sum(d.gpus for d in promised),
    )
    free = Capacity(
        cpus=max(0.0, machine.cpus * CPU_OVERCOMMIT - used.cpus),
        memory_bytes=max(0, int(machine.memory_bytes * MEMORY_OVERCOMMIT) - used.memory_bytes),
        gpus=max(0, len(machine.gpus) - used.gpus),
    )
    return used, free


def _bytes(demand: Demand) -> int:
    return UNLIMITED_BYTES if demand.memory_bytes is None else demand.memory_bytes
