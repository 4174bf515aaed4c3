"""Passes signals that stop a replica to its loop, which does not run in the main thread.

Python runs signal handlers in the main thread, between two instructions: not while it is in native code. So the loop
reads the wakeup descriptor, which the interpreter's C handler writes to at once. A service may set handlers of its own,
or run a loop in the main thread, which takes over the wakeup descriptor: then our Python handler writes to the loop's
socket. When the main thread returns, handlers and descriptor are installed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that stop a replica."""

_WAKE_S = 1.0


class Signals:
    """Delivers `STOPPING` to a loop. Construct it in the main thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._wakeup = self._writer.fileno()
        self._wake_at = 0.0
        self.install()

    def install(self) -> None:
        """Set handlers and wakeup descriptor, whatever replaced them. In the main thread."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, self._handle)

    def wake(self) -> None:
        """Set the wakeup descriptor only, at most every `_WAKE_S`: it is called after each handler, and the system call
        would double the cost of a short one. Meanwhile our Python handler works."""
        now = time.monotonic()
        if now >= self._wake_at:
            self._wake_at = now + _WAKE_S
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def reset_in_child(self) -> None:
        """Restore the default actions in a forked child."""
        wakeup = signal.set_wakeup_fd(-1)
        if wakeup not in (-1, self._wakeup):
            signal.set_wakeup_fd(wakeup)  # of a loop that the service runs itself
        for number in STOPPING:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def listen(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        """Call `stop` on `loop` for each signal, including those received before."""
        loop.add_reader(self._reader.fileno(), self._receive, stop)

    def _receive(self, stop: Callable[[], object]) -> None:
        with contextlib.suppress(BlockingIOError):
            if any(number in STOPPING for number in self._reader.recv(4096)):
                stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            self._writer.send(bytes((number,)))
