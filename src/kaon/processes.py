"""Starts and ends processes that are known by the locks they hold (`kaon.process_locks`).

Signals are never sent to a bare pid, which the kernel may have given to another process. A process is opened first
(`pidfd`), then checked again, and the signal is sent through the descriptor.

Other processes of its session end with it. Linux only (5.3 or later).

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kaon import proc
from kaon.errors import InvalidInput, Unavailable
from kaon.process_locks import hint, holders, is_held, is_holder, leader, taken

_STDIN_MOST_BYTES = 2**20
"""The most that an unprivileged pipe can hold."""
_SETTLE_S = 0.05
"""A parent releases the lock of its child within milliseconds of the child's start."""
_KILL_S = 10.0
"""How long a killed process may take to vanish (writing back, leaving the kernel)."""

_T = TypeVar("_T")
_searching = ThreadPoolExecutor(2, thread_name_prefix="processes")
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of a process. Memory is watched by drivers instead, since address space says little about its use."""

    open_files: int = 8192
    oom_score_adj: int = 0
    """Which process the kernel ends when memory runs out: 0 as others, 1000 first."""


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

    `env` is its whole environment. Standard output and error are appended to `log` (a file or a descriptor), or
    dropped; `stdin` is the content of its standard input (up to 1 MiB). It inherits `pass_fds`. Raises `Conflict` when
    the lock is held, `InvalidInput` when `stdin` is too long, `OSError` when the program cannot be started.
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


async def ended(pid: int) -> int | None:
    """Wait for the end of a process, end the other processes of its session, and return its exit code.

    Negative: by that signal. None: this process is not its parent, so the exit code is unknown.
    """
    begun = proc.stat(pid)
    with _opened(pid) as fd:
        if fd is not None:
            await _exit_of(fd, None)
    # A child is not reaped yet, so its pid cannot belong to another process.
    if begun:
        await _kill(lambda: proc.session(pid, begun.start_ticks))
    return exit_code(pid)


async def gone(lock: Path, timeout_s: float | None) -> bool:
    """Wait until the process that was started with `lock` has ended; False when it still runs after `timeout_s`."""
    pid = await _search(lambda: leader(lock))
    if pid is None:
        return True
    with _opened(pid) as fd:
        if fd is not None and is_holder(pid, lock) and not await _exit_of(fd, timeout_s):
            return False
    exit_code(pid)  # reaps it when it is our child
    return True


def ended_from_outside(code: int | None) -> bool:
    """Whether an exit code means that another process ended it, so that the next start may succeed.

    SIGKILL and SIGTERM come from others; None is the code of a process that was taken over. A process that exits by
    itself, or by a fault (SIGSEGV, SIGABRT), is likely to do so again.
    """
    return code is None or -code in (signal.SIGKILL, signal.SIGTERM)


def exit_code(pid: int) -> int | None:
    """Exit code of a child that has ended; negative: by that signal. None: it runs, or is not our child."""
    child = _children.get(pid)
    return child.poll() if child else None


async def stop(lock: Path, grace_s: float, *, whole_session: bool = False) -> None:
    """End the process that holds `lock` and all that it started. Idempotent.

    SIGTERM to the process, and with `whole_session` to all of its session; up to `grace_s` for it to end, then SIGKILL
    to its session and to all that hold the lock.
    Raises `Unavailable` when one of them does not end.
    """
    if not is_held(lock):
        return
    pid = await _search(lambda: leader(lock))
    if pid is None:
        await asyncio.sleep(_SETTLE_S)
        pid = await _search(lambda: leader(lock))
    if pid is not None and (begun := proc.stat(pid)):
        with _opened(pid) as fd:
            if fd is not None and is_holder(pid, lock):
                _send(fd, signal.SIGTERM)
                if whole_session and grace_s:
                    await _ask_to_end(await _search(lambda: proc.session(pid, begun.start_ticks)), pid)
                await _exit_of(fd, grace_s)
        await _kill(lambda: {*proc.session(pid, begun.start_ticks), *holders(lock)})
        exit_code(pid)  # reaps it when it is our child
    await _kill(lambda: set(holders(lock)))


async def _ask_to_end(members: set[int], session: int) -> None:
    """SIGTERM to the members of a session."""
    for member in members:
        with _opened(member) as fd:
            found = proc.stat(member)  # now that it is open, its number stays its own
            if fd is not None and found and found.session == session:
                _send(fd, signal.SIGTERM)


async def send(lock: Path, number: int) -> None:
    """Send a signal to the process that was started with `lock`, unless it has ended."""
    pid = await _search(lambda: leader(lock))
    if pid is None:
        return
    with _opened(pid) as fd:
        if fd is not None and is_holder(pid, lock):
            _send(fd, number)


async def _search(work: Callable[[], _T]) -> _T:
    """The result of `work()`, in a thread for searches."""
    return await asyncio.get_running_loop().run_in_executor(_searching, work)


@contextlib.contextmanager
def filled_pipe(content: bytes) -> Iterator[int]:
    """The reading end of a pipe that holds `content`, which is written nowhere else."""
    if len(content) > _STDIN_MOST_BYTES:
        raise InvalidInput(f"Standard input has {len(content)} bytes; at most {_STDIN_MOST_BYTES} are possible.")
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
    """Set the limits of a process, unless it has ended."""
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
    """A descriptor of a process; None: it has ended."""
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
    """SIGKILL for all of `members`, repeated until there are none: they may fork meanwhile."""
    give_up = time.monotonic() + _KILL_S
    while found := await _search(members):
        with contextlib.ExitStack() as stack:
            fds = {pid: fd for pid in found if (fd := stack.enter_context(_opened(pid))) is not None}
            still = await _search(members)  # the pids that still belong to them, now that they are open
            for pid in fds.keys() & still:
                _send(fds[pid], signal.SIGKILL)
            left_s = max(0.0, give_up - time.monotonic())
            await asyncio.gather(*(_exit_of(fds[pid], left_s) for pid in fds.keys() & still))
        if time.monotonic() > give_up:
            raise Unavailable(
                f"Processes {sorted(found)} do not end, even when killed.", hint="See the kernel's log: dmesg"
            )
