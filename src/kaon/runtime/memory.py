"""How much memory a replica uses: what would be free again if it ended, as its driver counts it against the limit.

Anonymous and shared memory of the process and of the processes that it started; files in the page cache are not its
own. Linux tells it in /proc; elsewhere nothing is known, and 0 is said.
"""

from __future__ import annotations

import os

EVERY_S = 5.0
"""It is asked for every second, and looked at so often: a look opens a file for each thread, 0.2 ms for thirty."""

_OWN = (b"RssAnon:", b"RssShmem:")


class MemoryMeter:
    """Remembers the last look."""

    def __init__(self) -> None:
        self._until_s = float("-inf")
        self._bytes = 0

    def read(self, now_s: float) -> int:
        """Bytes, at most `EVERY_S` old; `now_s` is of a clock that never goes back."""
        if now_s >= self._until_s:
            self._until_s = now_s + EVERY_S
            self._bytes = used()
        return self._bytes


def used() -> int:
    """Bytes that this process and its descendants use; 0 where nobody tells."""
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
    """By plain calls: this is in the way of the loop."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)
