"""How a replica ended: the files with its exit, and the reason to report."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from kaon.drivers.port import ReplicaObservation
from kaon.drivers.process import logs
from kaon.errors import KaonError
from kaon.types.launch import EXIT_CONFIG

_CONFIG_ERROR = "ConfigError: "  # how the runtime's last line begins when it ends with that exit code
_REASON_LENGTH = 200


def read_exit(file: Path) -> tuple[int | None, float | None]:
    """The exit code that a replica's parent wrote, and when; None: it wrote nothing."""
    try:
        found = json.loads(file.read_bytes())
        return int(found["code"]), float(found["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def read_ended(file: Path) -> ReplicaObservation | None:
    """The observation of a replica's end that an earlier driver object wrote; None when there is none."""
    try:
        return ReplicaObservation.model_validate_json(file.read_bytes())
    except (OSError, ValueError):  # missing, incomplete, or written by another version
        return None


def write_ended(file: Path, ended: ReplicaObservation) -> None:
    """Write it for the next driver object; a failing disk is ignored."""
    with contextlib.suppress(OSError):
        write_private(file, ended.model_dump_json())


def write_private(path: Path, text: str) -> None:
    """Replace a file, which only its owner can read, in one step. Raises OSError."""
    new = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def cannot_start(error: Exception) -> str:
    """Why a replica did not start."""
    if isinstance(error, KaonError):
        return error.cause
    return f"It cannot be started: {str(error) or type(error).__name__}."


def reason(code: int | None, last_lines: tuple[str, ...]) -> str:
    """Why a replica ended, by its exit code and its last lines."""
    match code:
        case None:
            return "It ended; its exit code is unknown."
        case 0:
            return "It ended by itself."
        case _ if code == EXIT_CONFIG:
            written = [line for line in last_lines if line.startswith(_CONFIG_ERROR)]
            return written[-1].removeprefix(_CONFIG_ERROR) if written else "It cannot start as configured."
        case _ if code < 0:
            site, name = logs.crash_site(last_lines), _signal_name(-code)
            return f"It was killed by {name}: {site}." if site else f"It was killed by {name}."
        case _:
            if not last_lines:
                return f"It ended with exit code {code}."
            return f"It ended with exit code {code}: {last_lines[-1].strip()[:_REASON_LENGTH]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name of their own
        return f"signal {number}"
