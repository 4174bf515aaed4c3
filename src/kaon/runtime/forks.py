"""What a replica's forked children must not share with it.

`os.fork`, and multiprocessing where it forks, copy the process with its descriptors and its signal handlers. Without
isolation a child keeps callers' connections open, accepts new ones, and a signal to it is written to the replica's
wakeup descriptor, so that ending the child would drain the replica. (Executed programs are not affected: all of our
descriptors are closed on exec except the lock, by which the driver finds processes that a replica left behind.)

In a child, signals have their default action, and each of our descriptors is replaced by the null device: the number
stays taken, so that an object of the parent that closes it late cannot close a descriptor of the child.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterable

_child = False


def in_child() -> bool:
    """Whether this process is a fork of a replica."""
    return _child


def leave(error: BaseException | None) -> None:
    """End this child, which returned from the function that forked it. Does not return."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def isolate(addresses: Iterable[str], reset_signals: Callable[[], None]) -> None:
    """Close, in every later fork, the descriptors that are open now and connections to `addresses`.

    Inheritable descriptors (standard streams, the lock) stay open. `reset_signals` is called in each child.
    """
    own = {fd: what for fd, what in _open_files().items() if not _is_inheritable(fd)}
    local = {_local_name(address) for address in addresses}

    def after_fork() -> None:
        global _child
        _child = True
        reset_signals()
        _close_inherited(own, local)

    os.register_at_fork(after_in_child=after_fork)


def _close_inherited(own: dict[int, str], local: set[object]) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd, what in _open_files().items():
        if own.get(fd) == what or (what.startswith("socket:") and _local_address(fd) in local):
            os.dup2(null, fd, inheritable=False)
    os.close(null)


def _open_files() -> dict[int, str]:
    """Descriptor -> the file that it refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _local_address(fd: int) -> object:
    """The path or the port that a socket is bound to."""
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            name = copy.getsockname()
    except OSError:
        return None
    return name[1] if isinstance(name, tuple) else name


def _local_name(address: str) -> object:
    """The same of `unix:/path` or `host:port`."""
    return address.removeprefix("unix:") if address.startswith("unix:") else int(address.rpartition(":")[2])
