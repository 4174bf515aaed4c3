"""Reads `/proc`: the processes of this machine.

A search of all processes takes milliseconds, tens of them on a busy machine: take one `table` for many processes, and
search in a thread where an event loop runs.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessTable:
    """The processes of this machine at one moment."""

    sessions: Mapping[int, frozenset[int]]
    """Session -> its living members."""


def table() -> ProcessTable:
    """All processes, by one search."""
    sessions: defaultdict[int, set[int]] = defaultdict(set)
    for pid in pids():
        found = stat(pid)
        if found and found.state not in "ZX":
            sessions[found.session].add(pid)
    return ProcessTable({session: frozenset(members) for session, members in sessions.items()})


def memory_over(pid: int, limit_bytes: int, processes: ProcessTable) -> int:
    """Bytes of memory that a process and its session use, when that is more than `limit_bytes`; else 0.

    Counts anonymous and shared memory, each page once; not files in the page cache.
    """
    members = {pid, *processes.sessions.get(pid, ())}
    at_most = sum(_kilobytes(f"/proc/{member}/status", "RssAnon:", "RssShmem:") for member in members) * 1024
    if at_most <= limit_bytes:
        return 0  # the usual case: the exact figure costs the kernel a walk through every page
    exact = sum(_kilobytes(f"/proc/{member}/smaps_rollup", "Pss_Anon:", "Pss_Shmem:") for member in members) * 1024
    return exact if exact > limit_bytes else 0


def started_at(pid: int) -> float | None:
    """Epoch seconds at which a process began, None when there is none."""
    found = stat(pid)
    if found is None:
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + found.start_ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessStat:
    """State, session and start of one process."""

    state: str
    session: int
    start_ticks: int


def stat(pid: int) -> ProcessStat | None:
    """State, session and start of a process; None when there is none."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before may hold anything, brackets too
    return ProcessStat(state=fields[0].decode(), session=int(fields[3]), start_ticks=int(fields[19]))


def session(leader_pid: int, start_ticks: int | None) -> set[int]:
    """The living members of a session but its leader; none when the leader's pid now belongs to another process."""
    first = stat(leader_pid)
    if first and start_ticks is not None and first.start_ticks != start_ticks:
        return set()
    others = ((pid, stat(pid)) for pid in pids() if pid != leader_pid)
    return {pid for pid, found in others if found and found.session == leader_pid and found.state not in "ZX"}


def pids() -> list[int]:
    """The pids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def read(path: str) -> bytes:
    """The beginning of a file of /proc; empty when its process has ended."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(fd, 16_384)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)


def _kilobytes(path: str, *names: str) -> int:
    lines = read(path).decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))
