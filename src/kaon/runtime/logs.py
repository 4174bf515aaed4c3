"""A replica's log: one JSON object a line, with the request it belongs to; in a file that is rotated.

Everything that the process writes to standard output or error goes there, prints and crashes of native code
included, so rotation works on the descriptors: the file is renamed, and a new one put under descriptors 1 and 2.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from kaon import context, log

KEEP = 3
"""Rotated files that are kept: `NAME.1` is the newest."""


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": log.blot(record.getMessage()),
        }
        if request_id := context.request_id.get():
            entry["request_id"] = request_id
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = log.blot("".join(traceback.format_exception(record.exc_info[1])))
        return json.dumps(entry, ensure_ascii=False, default=str)


class Coloured(logging.Formatter):
    """Short lines for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return log.blot(super().format(record))


def configure(level: str = "INFO") -> None:
    """Send the standard library's logging to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Coloured() if sys.stderr.isatty() else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("kaon.runtime").critical("the replica crashed", exc_info=(kind, error, trace))


class LogFile:
    """A file under descriptors 1 and 2. Raises OSError when it cannot be opened."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._open()

    def rotate_if_full(self) -> None:
        """Start a new file when this one has reached its size. A full disk leaves everything as it is."""
        try:
            if os.fstat(1).st_size >= self._max_bytes:
                for number in range(KEEP - 1, 0, -1):
                    older = self._numbered(number)
                    if older.exists():
                        older.replace(self._numbered(number + 1))
                self._path.replace(self._numbered(1))
                self._open()
        except OSError as error:
            logging.getLogger("kaon.runtime").warning("the log could not be rotated: %s", error.strerror)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.dup2(file, 1)
            os.dup2(file, 2)
        finally:
            os.close(file)
