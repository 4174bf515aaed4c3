"""`python -m kaon.runtime --launch FILE`: one replica, as its launch file says. Secrets come on standard input."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import sys
from pathlib import Path

import uvloop
from pydantic import ValidationError

from kaon import log
from kaon.runtime import logs
from kaon.runtime.replica import Replica
from kaon.types.launch import EXIT_CONFIG, Launch

_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SWITCH_S = 0.0005
"""A handler's thread that wants the interpreter gets it from the loop within this; Python's default is 5 ms."""


def main() -> int:
    """The replica's whole life; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kaon.runtime", description=__doc__)
    parser.add_argument("--launch", type=Path, required=True, metavar="FILE", help="JSON of kaon.types.launch.Launch")
    options = parser.parse_args()
    try:
        launch = Launch.model_validate_json(options.launch.read_bytes())
        secrets = read_secrets()
        log_file = logs.LogFile(launch.log_file, launch.log_max_bytes) if launch.log_file else None
    except (OSError, ValueError, ValidationError) as error:
        print(f"ConfigError: the replica cannot be launched: {_said(error)}", file=sys.stderr)
        return EXIT_CONFIG
    logs.configure(os.environ.get("KAON_LOG_LEVEL", "info").upper())
    set_environment(launch, secrets)
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what is loaded by now stays: the collector need not walk it again
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Replica(launch, log_file).run())


def read_secrets() -> dict[str, str]:
    """The JSON object on standard input; nothing there: none. Raises ValueError."""
    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        return {}
    secrets = json.loads(text)
    if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
        raise ValueError("standard input is not a JSON object of texts")
    return secrets


def set_environment(launch: Launch, secrets: dict[str, str]) -> None:
    """Put variables and secrets into this process's environment only: /proc shows what it was started with."""
    os.environ.update(launch.env)
    os.environ.update(secrets)
    for value in secrets.values():
        log.hide(value)
    if launch.edge_url:
        os.environ["KAON_EDGE_URL"] = launch.edge_url
    if launch.data_dir:
        os.environ["KAON_DATA_DIR"] = launch.data_dir
    for name in _THREAD_COUNTS:
        os.environ.setdefault(name, str(max(1, math.ceil(launch.cpus))))


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
