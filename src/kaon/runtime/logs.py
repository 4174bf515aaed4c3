"""A replica's log: one JSON object a line, with the request id, unless the service configures logging itself.

Our handler of the root logger is silent while another one writes to the standard streams, and `logging.basicConfig`
removes it. The platform's own lines have a separate handler, which the service's configuration does not affect.
"""

from __future__ import annotations

import errno
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from kaon import context, log
from kaon.sdk import left_out

_OWN = ("kaon", "uvicorn")
"""Loggers of the platform."""


class JsonLines(logging.Formatter):
    """One JSON object a record; exceptions mention files below `code_dir` that are not in the artifact."""

    def __init__(self, code_dir: Path | None = None) -> None:
        super().__init__()
        self._code_dir = code_dir

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
            entry["exception"] = log.blot(self._traceback(record.exc_info[1]))
        return json.dumps(entry, ensure_ascii=False, default=str)

    def _traceback(self, error: BaseException) -> str:
        text = "".join(traceback.format_exception(error))
        if self._code_dir is not None:
            text += left_out.explanation(error, self._code_dir) + read_only(error, self._code_dir)
        return text


def read_only(error: BaseException, code_dir: Path) -> str:
    """A hint for a write into the code's folder, the working directory; empty for other errors."""
    if not isinstance(error, OSError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    if not isinstance(error.filename, str) or not (code_dir / error.filename).resolve().is_relative_to(code_dir):
        return ""
    return f"{error.filename} is in the folder of the code, which is read-only. Write below kaon.data_dir()."


class Coloured(logging.Formatter):
    """Short lines for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return log.blot(super().format(record))


class _Default(logging.StreamHandler[Any]):
    """Writes to standard error, unless the service has a handler that does."""

    def handle(self, record: logging.LogRecord) -> bool:
        others = (other for other in logging.getLogger().handlers if other is not self)
        return not any(map(_writes_to_standard_streams, others)) and bool(super().handle(record))


def _writes_to_standard_streams(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


def configure(level: str = "INFO", code_dir: Path | None = None) -> None:
    """Send the standard library's logging to standard error. Call once."""
    form = Coloured() if sys.stderr.isatty() else JsonLines(code_dir)
    default, own = _Default(sys.stderr), logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    root.handlers[:] = [default]
    root.setLevel(level)
    for handler in (default, own):
        handler.setFormatter(form)
    for name in _OWN:
        logger = logging.getLogger(name)
        logger.handlers[:] = [own]
        logger.propagate = False
    logging.getLogger("kaon").setLevel(level)
    for name in ("uvicorn", "httpx2"):  # a line for each request says nothing that figures do not
        logging.getLogger(name).setLevel(logging.WARNING)
    configure_root = logging.basicConfig

    def basic_config(**kwargs: Any) -> None:
        root.removeHandler(default)  # it does nothing when the root logger has a handler
        configure_root(**kwargs)

    basic_config.__doc__ = configure_root.__doc__
    logging.basicConfig = basic_config
    sys.excepthook = _log_uncaught


def restore() -> None:
    """Enable the platform's loggers again after `logging.config.dictConfig`, which disables existing ones."""
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.partition(".")[0] in _OWN and isinstance(logger, logging.Logger):
            logger.disabled = False


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("kaon.runtime").critical("the replica crashed", exc_info=(kind, error, trace))
