"""Starts a replica and keeps its log: reads what its processes write and puts it into a file as whole lines, without
secrets; and when the replica has ended, writes its exit code into a file.

A separate program, started with `python -I -S` and nothing but the standard library, 4 MB: the last lines before a
crash are kept, and a replica that holds the interpreter's lock cannot block itself by what it prints. As the replica's
parent it gets the exit code even while no agent runs. It ends once no process has the writing end open.

    keeper.py PIPE FILE MAX_BYTES     PIPE: descriptor to read; standard input: JSON, see `main`
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterable

KEEP = 3
"""Rotated files that are kept: `FILE.1` is the newest."""
QUIET_S = 0.5
"""A line without its end is written when nothing was added to it for so long,"""
_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 1.0
_KILL_S = 10.0
"""How long killed processes may take to vanish."""
OPEN_S = 5.0
"""or when it has been open for so long."""
BAR_S = 10.0
"""How often the state of a progress bar, which rewrites its line, is written; its last state always is."""
LINE_MOST_BYTES = 64 * 1024

_MASK = b"******"


class Lines:
    """Makes lines to keep of a stream of bytes. Times are of any monotonic clock."""

    def __init__(self, hidden: Iterable[bytes] = ()) -> None:
        self._hidden = sorted(filter(None, hidden), key=len, reverse=True)
        self._overlap = max(map(len, self._hidden), default=0)
        self._rest = b""
        self._began_at = self._fed_at = 0.0
        self._bar_shown_at = -math.inf
        self._was_cut = False  # the beginning of the line was written already

    def feed(self, chunk: bytes, now: float) -> bytes:
        """Add bytes; returns what can be written now."""
        if not self._rest:
            self._began_at = now
        self._fed_at = now
        *whole, rest = (self._rest + chunk).split(b"\n")
        out = [self._line(line) for line in whole]
        if whole:
            self._began_at = now
        self._rest = _shortened(rest)
        while len(self._rest) >= LINE_MOST_BYTES + self._overlap:
            masked = self._masked(self._rest)
            out.append(masked[:LINE_MOST_BYTES] + b"\n")
            self._rest, self._was_cut = masked[LINE_MOST_BYTES:], True
        return b"".join(out)

    def due_at(self) -> float:
        """When to call `flush`; infinity: not before more is added."""
        if not self._rest:
            return math.inf
        if b"\r" in self._rest:
            return max(self._fed_at, self._bar_shown_at + BAR_S, self._began_at + QUIET_S)
        return min(self._fed_at + QUIET_S, self._began_at + OPEN_S)

    def flush(self, now: float) -> bytes:
        """Returns the line that has no end yet."""
        if b"\r" in self._rest:
            self._bar_shown_at = now
        out = self._line(self._rest)
        self._rest, self._was_cut = b"", True
        return out

    def _line(self, text: bytes) -> bytes:
        """A line as it is kept; nothing when all of it was written already."""
        state = self._masked(_state(text))
        cut, self._was_cut = self._was_cut, False
        return b"" if cut and not state else state + b"\n"

    def _masked(self, text: bytes) -> bytes:
        for value in self._hidden:
            text = text.replace(value, _MASK)
        return text


class LogFile:
    """A file that is rotated when it is full. What cannot be written is dropped: no replica waits for a disk."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = -1

    def write(self, content: bytes) -> None:
        """Append."""
        with contextlib.suppress(OSError):
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while content:
                content = content[os.write(self._file, content) :]
            if os.fstat(self._file).st_size >= self._max_bytes:
                self._rotate()

    def _rotate(self) -> None:
        for number in range(KEEP - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.replace(self._path, f"{self._path}.1")
        os.close(self._file)
        self._file = -1


def _state(text: bytes) -> bytes:
    """What a terminal shows of a line with carriage returns: the text after the last one."""
    if b"\r" not in text:
        return text
    return next((part for part in reversed(text.split(b"\r")) if part.strip()), b"")


def _shortened(text: bytes) -> bytes:
    """An unfinished line, without the texts that were overwritten."""
    before, back, last = text.rpartition(b"\r")
    return _state(before) + back + last


class Child:
    """The replica that this process has started."""

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        exit_file: str,
        stdin: int,
        output: int,
        lock: int,
        adopts: bool = False,
    ) -> None:
        """Start it. It inherits the descriptors `lock`, `stdin` and `output`, and nothing else. Raises OSError.

        With `adopts` no process that it starts, in whatever session, outlives it: each whose parent has ended becomes
        a child of this process, which kills it at the end.
        """
        self._exit_file = exit_file
        self.adopts = adopts and _adopt_orphans()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(int(name), int(name) == lock)
        os.chdir(cwd)
        streams = [(os.POSIX_SPAWN_DUP2, own, number) for own, number in ((stdin, 0), (output, 1), (output, 2))]
        ignored_here = [signal.SIGPIPE, signal.SIGXFSZ]
        self.pid = os.posix_spawn(argv[0], argv, env, file_actions=streams, setsid=True, setsigdef=ignored_here)
        self.pidfd = os.pidfd_open(self.pid)
        self.runs = True
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % self.pid, 0)  # as `kaon.process_locks.hint`
        for descriptor in (lock, stdin, output):
            os.close(descriptor)
        os.chdir("/")

    def note_end(self) -> None:
        """Wait until it has ended, and write its exit code."""
        self.runs = False
        end_at = time.time()
        _, status = os.waitpid(self.pid, 0)
        exit_ = {"code": os.waitstatus_to_exitcode(status), "at": end_at}
        new = f"{self._exit_file}.part"
        with contextlib.suppress(OSError):
            with open(new, "w") as file:
                json.dump(exit_, file)
            os.replace(new, self._exit_file)
        if self.adopts:
            _kill_children()

    def reap(self) -> None:
        """Reap adopted processes that have ended."""
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid == self.pid:
                    return
                os.waitpid(found.si_pid, 0)


def _adopt_orphans() -> bool:
    """Become the parent of all descendants whose own parent ends; whether that is possible."""
    import ctypes  # 1 MB, which keepers of services do without

    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _kill_children() -> None:
    """Kill all children of this process, and those that it adopts meanwhile, until there are none."""
    give_up = time.monotonic() + _KILL_S
    while time.monotonic() < give_up:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _children(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so its number is its own
        time.sleep(0.002)


def _children(parent: int) -> list[int]:
    """The living children of a process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if int(fields[1]) == parent and fields[0] not in b"ZX":
                    found.append(int(name))
    return found


def _answer(descriptor: int, text: str) -> None:
    """Answer the process that has started this one, which may have ended."""
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode(errors="replace")[:4096])


def keep(pipe: int, lines: Lines, file: LogFile, child: Child | None = None) -> None:
    """Copy until the end of the pipe, and note the end of `child`."""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    if child:
        waiting.register(child.pidfd, select.POLLIN)
    while True:
        now = time.monotonic()
        due_in_s = lines.due_at() - now
        if due_in_s <= 0:
            file.write(lines.flush(now))
            continue
        if child and child.adopts and child.runs:
            child.reap()
            due_in_s = min(due_in_s, _REAP_S)
        ready = dict(waiting.poll(None if math.isinf(due_in_s) else math.ceil(due_in_s * 1000)))
        if child and child.pidfd in ready:
            waiting.unregister(child.pidfd)
            child.note_end()
        if pipe not in ready:
            continue
        try:
            chunk = os.read(pipe, 65_536)
        except BlockingIOError:
            continue
        if not chunk:
            break
        file.write(lines.feed(chunk, time.monotonic()))
    if not math.isinf(lines.due_at()):
        file.write(lines.flush(time.monotonic()))
    if child and child.runs:
        child.note_end()


def main(pipe: int, path: str, max_bytes: int) -> None:
    """Keep one log to its end, ignoring signals to stop.

    Standard input is an object: `hidden`, the texts to hide, and `run`, what to start first, or null: see `Child`. Its
    pid is written to the descriptor `answer`, or "!" and why it cannot be started.
    """
    given = json.load(sys.stdin)
    child = None
    if run := given["run"]:
        answer = run.pop("answer")
        try:
            child = Child(**run)
        except OSError as error:
            _answer(answer, f"!{error}")
            return
        _answer(answer, str(child.pid))
        os.close(answer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hidden = [text.encode(errors="surrogatepass") for text in given["hidden"]]
    keep(pipe, Lines(hidden), LogFile(path, max_bytes), child)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
