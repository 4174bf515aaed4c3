"""The lock of a process: a held lock means that the process runs.

The parent opens a lock file, takes `flock`, and the child inherits the descriptor: the lock is held from the child's
first instruction to its last, whatever ends in between. The pid of the holder is written into the lock file as a hint,
which is checked in `/proc` before it is used; without a valid one all of `/proc` is searched. So there are no stale pid
files, and a child is always found: the parent may be killed between any two of its instructions.

The functions here search `/proc`: coroutines call them in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from kaon import proc
from kaon.errors import Conflict

_TESTERS_S = 1.0
"""How long `taken` waits for processes that only test the lock: `is_held` takes it for microseconds."""
_HINT_BYTES = 20


def is_held(lock: Path) -> bool:
    """Whether a running process holds `lock`."""
    try:
        fd = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def holders(lock: Path) -> list[int]:
    """The processes that hold `lock`: first the one that was started with it, then its children, oldest first."""
    return holders_of([lock])[lock]


def holders_of(locks: Iterable[Path]) -> dict[Path, list[int]]:
    """The holders of many locks, by one search."""
    answers: dict[Path, list[int]] = {lock: [] for lock in locks}
    wanted = {(found.st_dev, found.st_ino): lock for lock in answers if is_held(lock) and (found := _status(lock))}
    if not wanted:
        return answers
    found_by: defaultdict[Path, dict[int, proc.ProcessStat]] = defaultdict(dict)
    for pid in proc.pids():
        for file in _holds(pid, wanted.keys()) if pid != os.getpid() else ():
            if stat := proc.stat(pid):
                found_by[wanted[file]][pid] = stat
    for lock, stats in found_by.items():
        answers[lock] = sorted(stats, key=lambda pid: (stats[pid].session != pid, stats[pid].start_ticks, pid))
    return answers


def leader(lock: Path) -> int | None:
    """The process that was started with `lock`; None: it has ended.

    Once it has ended, a child of it with a session of its own may be mistaken for it.
    """
    if not is_held(lock):
        return None
    hinted = _hinted(lock)
    if hinted is not None and _leads(hinted) and is_holder(hinted, lock):
        return hinted
    return next((pid for pid in holders(lock) if _leads(pid)), None)


def is_holder(pid: int, lock: Path) -> bool:
    """Whether a process holds `lock`."""
    found = _status(lock)
    return found is not None and bool(_holds(pid, {(found.st_dev, found.st_ino)}))


def _leads(pid: int) -> bool:
    stat = proc.stat(pid)
    return stat is not None and stat.session == pid


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _holds(pid: int, locks: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """The `locks` (device and inode) that a descriptor of `pid` holds; an open descriptor alone holds none."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                opened = os.stat(f"/proc/{pid}/fd/{fd}")
                file = opened.st_dev, opened.st_ino
                if file in locks and file not in found:
                    lines = proc.read(f"/proc/{pid}/fdinfo/{fd}").splitlines()
                    if any(b"FLOCK" in line and b"WRITE" in line for line in lines):
                        found.add(file)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return found


def _hinted(lock: Path) -> int | None:
    text = proc.read(str(lock)).strip()
    return int(text) if text.isdigit() and len(text) < _HINT_BYTES else None


@contextlib.contextmanager
def taken(lock: Path) -> Iterator[int]:
    """A descriptor that holds `lock`, for a child to inherit. Raises `Conflict` when another process holds it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_up = time.monotonic() + _TESTERS_S
        while not _try_lock(fd):
            if leader(lock) or holders(lock) or time.monotonic() > give_up:
                raise Conflict(f"It is running already: a process holds {lock}.")
            time.sleep(0.0005)
        yield fd
    finally:
        os.close(fd)  # the child has its own


def hint(held: int, pid: int) -> None:
    """Write into the lock file that `pid` is started with the lock, so that it is found without a search."""
    with contextlib.suppress(OSError):
        os.ftruncate(held, 0)
        os.pwrite(held, b"%d\n" % pid, 0)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
