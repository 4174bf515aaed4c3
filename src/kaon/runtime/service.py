"""Runs one replica of a service in this process: its loop in a second thread, its functions in the main thread."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from kaon.runtime.endings import end_in_time
from kaon.runtime.replica import Replica
from kaon.runtime.signals import Signals
from kaon.runtime.threads import MainThread
from kaon.sdk.load import load
from kaon.types.launch import Launch
from kaon.types.service import EventLoopName

_SWITCH_S = 0.0005
"""How soon a handler's thread gets the interpreter from the loop; Python's default is 5 ms."""

_log = logging.getLogger("kaon.runtime")


def run(launch: Launch) -> int:
    """Serve until stopped; the exit code."""
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what is loaded by now stays: the collector need not walk it again
    signals = Signals()
    main_thread = MainThread(after_each=signals.wake)
    return _run(Replica(launch, main_thread, signals), main_thread, _factory(launch.loop or _loop_of(launch)))


def _run(replica: Replica, main_thread: MainThread, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> int:
    """Run the replica's loop in a second thread, and its functions for the main thread in this one; the exit code."""
    codes = [1]

    def turn() -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                codes[0] = runner.run(replica.run())
                end_in_time(codes[0])
        except BaseException:
            _log.exception("the replica crashed")
        main_thread.end()
        if main_thread.busy:  # a constructor when stopped early, or a handler that outlasts draining
            os._exit(codes[0])

    threading.Thread(target=turn, name="kaon-loop", daemon=True).start()
    main_thread.serve()
    return codes[0]


def _loop_of(launch: Launch) -> EventLoopName:
    """The event loop that the class declares. Errors of its module are reported later, when it is loaded to serve."""
    try:
        return load(launch.entry, Path(launch.code_dir)).loop
    except Exception:
        return "uvloop"


def _factory(name: EventLoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
