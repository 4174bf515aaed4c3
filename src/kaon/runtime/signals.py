"""Signals that ask a replica to stop, told to its loop, which does not run in the main thread.

Python runs its signal handlers in the main thread, between two instructions: not while that is in native code. So
the loop listens to the wakeup descriptor, which the interpreter's own C handler writes to at once. A service may set
handlers of its own, or run a loop of its own in the main thread, which takes the wakeup descriptor over: while it
does, our Python handler tells the loop. When the main thread comes back, everything is put in its place again.
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
"""Signals by which a replica is asked to stop."""

_WAKE_S = 1.0


class Signals:
    """The way of `STOPPING` to a loop. Make it in the main thread."""

    def __init__(self) -> None:
        self._heard, self._told = socket.socketpair()
        for end in (self._heard, self._told):
            end.setblocking(False)
        self._wakeup = self._told.fileno()
        self._wake_at = 0.0
        self.install()

    def install(self) -> None:
        """Take the signals, whoever took them since. In the main thread."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, self._handle)

    def wake(self) -> None:
        """Take the wakeup descriptor only, and at most every `_WAKE_S`: it is called after each handler, and the system
        calls double what a short one costs. Until then our Python handler tells the loop."""
        now = time.monotonic()
        if now >= self._wake_at:
            self._wake_at = now + _WAKE_S
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def reset_in_child(self) -> None:
        """Give the signals their default meaning in a forked child, where nothing of ours may hear them."""
        wakeup = signal.set_wakeup_fd(-1)
        if wakeup not in (-1, self._wakeup):
            signal.set_wakeup_fd(wakeup)  # of a loop that the service runs itself
        for number in STOPPING:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def listen(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        """Call `stop` on `loop` for each of the signals, those that came before included."""
        loop.add_reader(self._heard.fileno(), self._hear, stop)

    def _hear(self, stop: Callable[[], object]) -> None:
        with contextlib.suppress(BlockingIOError):
            if any(number in STOPPING for number in self._heard.recv(4096)):
                stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            self._told.send(bytes((number,)))
