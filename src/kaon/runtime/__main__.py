"""`python -m kaon.runtime --launch FILE`: runs one replica or one job. Secrets come on standard input."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import logging
import os
import re
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from kaon import log
from kaon.runtime import logs
from kaon.sdk import setting
from kaon.types.launch import EXIT_CONFIG, STACKS_SIGNAL, Launch
from kaon.types.replica import WorkloadKind

_READ_AT_START = re.compile(r"LD_.*|MALLOC_.*|GLIBC_TUNABLES|PYTHON.*|LANG|LC_.*")
"""Variables that the loader, the C library and Python read before a secret can be set."""

_log = logging.getLogger("kaon.runtime")


def main() -> int:
    """The whole life of the process; its exit code."""
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
    setting.ignore(
        os.environ.keys() - {*launch.env, *launch.own_names, *secrets, *(use.variable for use in launch.datasets)}
    )
    set_secrets(secrets)
    # A job loads no server: it starts in half the time.
    part = importlib.import_module("kaon.runtime.job" if launch.kind is WorkloadKind.JOB else "kaon.runtime.service")
    code: int = part.run(launch)
    return code


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
