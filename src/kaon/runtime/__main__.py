"""`python -m kaon.runtime --launch FILE`: runs one replica. Secrets come on standard input."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from kaon import log
from kaon.runtime import logs
from kaon.runtime.replica import Replica
from kaon.runtime.signals import Signals
from kaon.runtime.threads import MainThread
from kaon.sdk import setting
from kaon.sdk.load import load
from kaon.types.launch import EXIT_CONFIG, STACKS_SIGNAL, Launch
from kaon.types.service import EventLoopName

_SWITCH_S = 0.0005
"""How soon a handler's thread gets the interpreter from the loop; Python's default is 5 ms."""
_ENDING_S = 5.0
"""How long the interpreter's end may take: non-daemon threads and exit functions of the service."""
_READ_AT_START = re.compile(r"LD_.*|MALLOC_.*|GLIBC_TUNABLES|PYTHON.*|LANG|LC_.*")
"""Variables that the loader, the C library and Python read before a secret can be set."""

_log = logging.getLogger("kaon.runtime")


def main() -> int:
    """The replica's whole life; its exit code."""
    faulthandler.enable(file=2)
    faulthandler.register(STACKS_SIGNAL, file=2)
    parser = argparse.ArgumentParser(prog="python -m kaon.runtime", description=__doc__)
    parser.add_argument("--launch", type=Path, required=True, metavar="FILE", help="JSON of kaon.types.launch.Launch")
    options = parser.parse_args()
    try:
        launch = Launch.model_validate_json(options.launch.read_bytes())
        secrets = read_secrets()
    except (OSError, ValueError, ValidationError) as error:
        print(f"ConfigError: the replica cannot be launched: {_message(error)}", file=sys.stderr)
        return EXIT_CONFIG
    logs.configure(os.environ.get("KAON_LOG_LEVEL", "info").upper(), Path(launch.code_dir))
    setting.ignore(os.environ.keys() - {*launch.env, *launch.own_names, *secrets})
    set_secrets(secrets)
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
                threading.Thread(target=_end_in_time, args=(codes[0],), daemon=True).start()
        except BaseException:
            _log.exception("the replica crashed")
        main_thread.end()
        if main_thread.busy:  # a constructor when stopped early, or a handler that outlasts draining
            os._exit(codes[0])

    threading.Thread(target=turn, name="kaon-loop", daemon=True).start()
    main_thread.serve()
    return codes[0]


def _end_in_time(code: int) -> None:
    time.sleep(_ENDING_S)
    os._exit(code)


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


def read_secrets() -> dict[str, str]:
    """The JSON object on standard input, empty without input. Raises ValueError."""
    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        return {}
    secrets = json.loads(text)
    if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
        raise ValueError("standard input is not a JSON object of texts")
    return secrets


def set_secrets(secrets: dict[str, str]) -> None:
    """Put secrets into the environment of this process, where /proc does not show them."""
    os.environ.update(secrets)
    time.tzset()  # TZ may be among them
    for value in secrets.values():
        log.hide(value)
    for name in filter(_READ_AT_START.fullmatch, secrets):
        _log.warning("%s is a secret: it is read when a process starts and has no effect here; use --env", name)


def _message(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
