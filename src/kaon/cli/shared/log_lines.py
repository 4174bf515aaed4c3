"""Log lines as people read them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from kaon import log
from kaon.cli.shared.text import fitted, plain, width
from kaon.drivers.port import LogLine

_SHOWN_APART = frozenset({"timestamp", "level", "logger", "event", "message", "msg", "request_id", "exception", "part"})
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line \d+, in ')
_MESSAGE_COLUMNS = 32
"""A message is continued below itself when it has so many columns, else near the left edge."""
_FRAMEWORK = re.compile(
    r"/site-packages/(kaon|starlette|anyio|uvicorn)/|/src/kaon/(runtime|sdk)/"
    r"|/python3\.\d+/(asyncio/|concurrent/|threading\.py)|<frozen "
)
"""Files whose frames say nothing about a service."""


def log_text(line: LogLine, *, named: bool = True, columns: int | None = None) -> list[str]:
    """A line for people: time, replica, level, message, other fields, request id; then its traceback. Pure.

    Lines fit `columns`, if given, and continue below the message.
    """
    fields = log.fields_of(line.text)
    at = "-" if line.at is None else datetime.fromtimestamp(line.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    head = f"{at:<12}  {plain(line.replica)}  " if named else f"{at:<12}  "
    indent = width(head) + 9
    if fields is None:
        return _wrapped(f"{head}{'':<7}  {line.text}", columns, indent)
    parts = [str(next(fields[key] for key in ("event", "message", "msg") if isinstance(fields.get(key), str)))]
    parts += [f"{key}={value}" for key, value in fields.items() if key not in _SHOWN_APART]
    parts += [f"[{fields['request_id']}]"] if fields.get("request_id") else []
    texts = [f"{head}{str(fields.get('level', '')).upper():<7}  {'  '.join(parts)}"]
    exception = fields.get("exception")
    if isinstance(exception, str):
        texts += [f"    {text}" for text in own_frames(exception.splitlines())]
    return [row for text in texts for row in _wrapped(text, columns, 4 if text.startswith(" ") else indent)]


def _wrapped(text: str, columns: int | None, indent: int) -> list[str]:
    """A line as lines that fit; text that leaves little room beside `indent` continues at the left."""
    line = plain(text, keep="\t").rstrip()
    indent = indent if columns is None or columns - indent >= _MESSAGE_COLUMNS else 4
    return fitted(line, columns, indent) or [""]


def own_frames(traceback: Sequence[str]) -> list[str]:
    """A traceback without frames of the framework, unless it has no others. Pure."""
    kept = list(_without_framework(traceback))
    return kept if any(_FRAME.match(line) for line in kept) else list(traceback)


def _without_framework(traceback: Sequence[str]) -> Iterator[str]:
    skipping = False
    for line in traceback:
        if found := _FRAME.match(line):
            skipping = bool(_FRAMEWORK.search(found["file"]))
        elif skipping and not line.startswith("    "):  # the source line and its marks are indented more than frames
            skipping = False
        if not skipping:
            yield line
