"""A replica's memory: what would be free if it ended, as its driver counts it against the limit.

Anonymous and shared memory of the process and its descendants, without the page cache. Read from /proc; 0 on systems
without it.
"""

from __future__ import annotations

import os

EVERY_S = 5.0
"""The cache time: a reading opens a file for each thread, 0.2 ms for thirty, and is requested every second."""

_OWN = (b"RssAnon:", b"RssShmem:")


class MemoryMeter:
    """Caches the last reading."""

    def __init__(self) -> None:
        self._until_s = float("-inf")
        self._bytes = 0

    def read(self, now_s: float) -> int:
        """Bytes, at most `EVERY_S` old; `now_s` is of a monotonic clock."""
        if now_s >= self._until_s:
            self._until_s = now_s + EVERY_S
            self._bytes = used()
        return self._bytes


def used() -> int:
    """Bytes that this process and its descendants use; 0 without /proc."""
    todo, total = ["self"], 0
    while todo:
        process = todo.pop()
        try:
            total += _resident(process)
            todo += _children(process)
        except OSError:  # it has ended meanwhile
            continue
    return total


def _resident(process: str) -> int:
    lines = _read(f"/proc/{process}/status").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN))


def _children(process: str) -> list[str]:
    tasks = f"/proc/{process}/task"
    return [pid.decode() for task in os.listdir(tasks) for pid in _read(f"{tasks}/{task}/children").split()]


def _read(file: str) -> bytes:
    """By plain system calls: this blocks the loop."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)
