"""A process is known by the lock that it holds.

The parent opens a lock file, takes `flock`, and the child inherits the descriptor, so that from its first
instruction to its last the lock is held, whatever dies in between. A held lock means "it runs". Who holds it is
written into the lock file, as a hint that is checked in `/proc` before it is believed; without a right one all of
`/proc` is searched. So there is no pid file to go stale, and no moment at which a child is unknown: the parent may be
killed between any two of its instructions.

Signals never go to a bare number, which the kernel may have given to somebody else by now. A process is
opened first (`pidfd`), then looked at again, and the signal goes through what was opened.

Whatever a process leaves behind in its session ends with it. Linux only (5.3 or later).

Coroutines here search `/proc` (`kaon.proc`) in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kaon import proc
from kaon.errors import Conflict, InvalidInput, Unavailable

_STDIN_MOST_BYTES = 2**20  # what an unprivileged pipe may be made to hold
_LOOKERS_S = 1.0  # a look by `is_held` takes the lock for microseconds; that is no reason to give up
_SETTLE_S = 0.05  # a parent lets go of its child's lock within milliseconds of its birth; do not take it for an heir
_KILL_S = 10.0  # how long a killed process may take to vanish (writing back, leaving the kernel)
_HINT_BYTES = 20

_T = TypeVar("_T")
_searching = ThreadPoolExecutor(2, thread_name_prefix="processes")


@dataclass(frozen=True)
class ProcessLimits:
    """What a process may use. Memory is not among them: address space says little about it, so drivers watch it."""

    open_files: int = 8192
    oom_score_adj: int = 0
    """How willingly the kernel ends it when memory runs out: 0 as others, 1000 first."""


_children: dict[int, subprocess.Popen[bytes]] = {}


def spawn(
    argv: Sequence[str],
    *,
    lock: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log: Path | int | None = None,
    stdin: bytes = b"",
    pass_fds: Sequence[int] = (),
    limits: ProcessLimits = ProcessLimits(),
) -> int:
    """Start a process in a session of its own that holds `lock` for as long as it lives; its pid.

    `env` is its whole environment. Standard output and error are appended to `log` (a file, or a descriptor), or
    dropped; `stdin` is all that it finds on its standard input (up to 1 MiB). It has `pass_fds` too. Raises
    `Conflict` when the lock is held, `InvalidInput` when `stdin` is too long, `OSError` when the program cannot be
    started.
    """
    with contextlib.ExitStack() as opened:
        held = opened.enter_context(taken(lock))
        source = opened.enter_context(filled_pipe(stdin))
        sink = opened.enter_context(_appending(log))
        child = subprocess.Popen(
            list(argv),
            stdin=source,
            stdout=sink,
            stderr=sink,
            cwd=cwd,
            env=dict(env),
            pass_fds=(held, *pass_fds),
            start_new_session=True,
        )
        hint(held, child.pid)
    _children[child.pid] = child
    limit(child.pid, limits)
    return child.pid


def is_held(lock: Path) -> bool:
    """Whether a process runs that holds `lock`."""
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
    """The processes that hold `lock`: the one that was started with it first, then its children, oldest first."""
    return holders_of([lock])[lock]


def holders_of(locks: Iterable[Path]) -> dict[Path, list[int]]:
    """The same of many locks, by one search."""
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
    """The process that was started with `lock`, None when it has ended.

    A child of it that made a session of its own may be taken for it once it has ended.
    """
    if not is_held(lock):
        return None
    hinted = _hinted(lock)
    if hinted is not None and _leads(hinted) and _is_holder(hinted, lock):
        return hinted
    return next((pid for pid in holders(lock) if _leads(pid)), None)


async def ended(pid: int) -> int | None:
    """Wait for the end of a process, end what it left behind in its session, and return its exit code.

    Negative: by that signal. None when this process is not its parent, so that nobody told.
    """
    begun = proc.stat(pid)
    with _opened(pid) as fd:
        if fd is not None:
            await _exit_of(fd, None)
    # Not reaped yet when it is ours: its number cannot have gone to somebody else.
    if begun:
        await _kill(lambda: proc.session(pid, begun.start_ticks))
    return exit_code(pid)


async def gone(lock: Path, timeout_s: float | None) -> bool:
    """Wait until the process that was started with `lock` has ended; False when it still runs after `timeout_s`."""
    pid = await _search(lambda: leader(lock))
    if pid is None:
        return True
    with _opened(pid) as fd:
        if fd is not None and _is_holder(pid, lock) and not await _exit_of(fd, timeout_s):
            return False
    exit_code(pid)  # reaps it when it is our child
    return True


def ended_from_outside(code: int | None) -> bool:
    """Whether an exit code tells that somebody ended the process, so that it says nothing of the next start.

    SIGKILL and SIGTERM come from others; None is of an adopted process that nobody can ask. What exits by itself, or
    falls by a signal of its own making (SIGSEGV, SIGABRT), is likely to do so again.
    """
    return code is None or -code in (signal.SIGKILL, signal.SIGTERM)


def exit_code(pid: int) -> int | None:
    """Exit code of a child that has ended; negative: by that signal. None: it runs, or is not our child."""
    child = _children.get(pid)
    return child.poll() if child else None


async def stop(lock: Path, grace_s: float) -> None:
    """End the process that holds `lock` and all that it started. Idempotent.

    SIGTERM to the process, up to `grace_s` for it to end, then SIGKILL to its session and to everybody who
    holds the lock. Raises `Unavailable` when something of it does not go away.
    """
    if not is_held(lock):
        return
    pid = await _search(lambda: leader(lock))
    if pid is None:
        await asyncio.sleep(_SETTLE_S)
        pid = await _search(lambda: leader(lock))
    if pid is not None and (begun := proc.stat(pid)):
        with _opened(pid) as fd:
            if fd is not None and _is_holder(pid, lock):
                _send(fd, signal.SIGTERM)
                await _exit_of(fd, grace_s)
        await _kill(lambda: {*proc.session(pid, begun.start_ticks), *holders(lock)})
        exit_code(pid)  # reaps it when it is our child
    await _kill(lambda: set(holders(lock)))


async def send(lock: Path, number: int) -> None:
    """Send a signal to the process that was started with `lock`; nothing, when it has ended."""
    pid = await _search(lambda: leader(lock))
    if pid is None:
        return
    with _opened(pid) as fd:
        if fd is not None and _is_holder(pid, lock):
            _send(fd, number)


# What /proc says


async def _search(work: Callable[[], _T]) -> _T:
    """What `work()` gives, done in a thread that does nothing else."""
    return await asyncio.get_running_loop().run_in_executor(_searching, work)


def _leads(pid: int) -> bool:
    stat = proc.stat(pid)
    return stat is not None and stat.session == pid


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_holder(pid: int, lock: Path) -> bool:
    found = _status(lock)
    return found is not None and bool(_holds(pid, {(found.st_dev, found.st_ino)}))


def _holds(pid: int, locks: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of `locks` (device and inode) that were taken through a descriptor of `pid`: others may just be looking."""
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


# What is done to them


@contextlib.contextmanager
def taken(lock: Path) -> Iterator[int]:
    """A descriptor through which `lock` is held, for a child to inherit. Raises `Conflict` when somebody holds it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_up = time.monotonic() + _LOOKERS_S
        while not _try_lock(fd):
            if leader(lock) or holders(lock) or time.monotonic() > give_up:
                raise Conflict(f"It runs already: a process holds {lock}.")
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


@contextlib.contextmanager
def filled_pipe(content: bytes) -> Iterator[int]:
    """The reading end of a pipe that holds `content`: what is read from it is nowhere any more."""
    if len(content) > _STDIN_MOST_BYTES:
        raise InvalidInput(f"{len(content)} bytes are too many for standard input; {_STDIN_MOST_BYTES} are the most.")
    reading, writing = os.pipe()
    try:
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, max(len(content), 4096))
            os.set_blocking(writing, False)
            os.write(writing, content)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


@contextlib.contextmanager
def _appending(log: Path | int | None) -> Iterator[int]:
    if isinstance(log, int):
        yield log
        return
    fd = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if log else 0), 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def limit(pid: int, limits: ProcessLimits) -> None:
    """Put the limits of a process in force, unless it has ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        _limit(pid, limits)


def _limit(pid: int, limits: ProcessLimits) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    files = limits.open_files if most == resource.RLIM_INFINITY else min(limits.open_files, most)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, files))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    if limits.oom_score_adj:
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(limits.oom_score_adj))


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int | None]:
    """A descriptor of a process, None when there is none."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _send(fd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


async def _exit_of(fd: int, timeout_s: float | None) -> bool:
    """Wait for the end of an opened process; False when it still runs after `timeout_s`."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(fd, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), timeout_s)
    except TimeoutError:
        return False
    else:
        return True
    finally:
        loop.remove_reader(fd)


async def _kill(members: Callable[[], set[int]]) -> None:
    """SIGKILL for all of `members`, again until there are none: they may have been forking meanwhile."""
    give_up = time.monotonic() + _KILL_S
    while found := await _search(members):
        with contextlib.ExitStack() as stack:
            fds = {pid: fd for pid in found if (fd := stack.enter_context(_opened(pid))) is not None}
            still = await _search(members)  # those who are who they were, now that they are open
            for pid in fds.keys() & still:
                _send(fds[pid], signal.SIGKILL)
            left_s = max(0.0, give_up - time.monotonic())
            await asyncio.gather(*(_exit_of(fds[pid], left_s) for pid in fds.keys() & still))
        if time.monotonic() > give_up:
            raise Unavailable(f"Processes {sorted(found)} do not end, even when killed.", hint="Look at dmesg.")
