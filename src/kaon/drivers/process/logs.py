"""A replica's log files: the last lines, and new ones as they come.

The keeper writes `replica.log` and, when that is full, renames it to `replica.log.1`, the previous one to
`replica.log.2` and so on. A structured line has its time. A plain line that arrives while the file is followed has the
time of its arrival; an earlier one has the time of the last structured line before it, else of the first one after it,
else of the file's last change. Control characters are removed, so that a log cannot control the reader's terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from kaon import log
from kaon.clock import Clock

_FOLLOW_S = 0.1
_BLOCK_BYTES = 64 * 1024
_LINE_MOST_BYTES = 64 * 1024
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~]?)|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


@dataclass(frozen=True, slots=True)
class TimedLine:
    """A readable line and its time, in epoch seconds."""

    text: str
    at: float


FATAL = "Fatal Python error: "
"""The beginning of the line that `faulthandler` writes about a crash in native code."""
_CRASHED_THREAD = "Current thread "
_FRAME = re.compile(r'  File "(?:.*/)?(?P<file>[^"]*)", line (?P<line>\d+) in (?P<name>.+)')


def readable(line: bytes) -> str:
    """A line to show: without escape sequences, control characters and secrets."""
    return log.blot(_ESCAPES.sub("", line[:_LINE_MOST_BYTES].decode(errors="replace")))


def stamp(text: str) -> float | None:
    """The time in a structured line, epoch seconds; None for other lines."""
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
        return datetime.fromisoformat(fields["timestamp"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


def last_lines(path: Path, count: int, *, since_byte: int = 0) -> tuple[str, ...]:
    """The last `count` lines of one file that begin at `since_byte` or later, readable, with tracebacks as lines."""
    try:
        with path.open("rb") as file:
            lines, unfinished = _last(file, count, since_byte)
    except FileNotFoundError:
        return ()
    spelled = (one for line in [*lines, unfinished] for one in log.spelled(readable(line)))
    return tuple(text for line in spelled if (text := log.blot(line)))[-count:]


def excerpt(lines: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The last `count` lines; after a crash in native code the error and the stack of the thread that crashed, which is
    among the stacks of all threads."""
    crash = next((at for at in reversed(range(len(lines))) if lines[at].startswith(FATAL)), None)
    if crash is None:
        return lines[-count:]
    after = lines[crash + 1 :]
    thread = next((at for at, line in enumerate(after) if line.startswith(_CRASHED_THREAD)), None)
    stack = after[thread:] if thread is not None else after
    end = next((at for at, line in enumerate(stack) if at and not line.startswith("  File ")), len(stack))
    return (lines[crash], *stack[:end])[:count]


def crash_site(lines: tuple[str, ...]) -> str:
    """The error and the place of a crash in native code, in a few words; empty without a crash."""
    error = next((line.removeprefix(FATAL) for line in lines if line.startswith(FATAL)), "")
    frames = [f"{found['name']} ({found['file']}:{found['line']})" for line in lines if (found := _FRAME.match(line))]
    return f"{error} in {', called by '.join(frames[:2])}" if error and frames else error


def tail(path: Path, count: int) -> tuple[list[bytes], BinaryIO | None]:
    """The last `count` lines over all rotated files, and the newest file, opened where they end."""
    newest = _open(path)
    if newest is None:
        return [], None
    lines, unfinished = _last(newest, count, 0)
    newest.seek(-len(unfinished), os.SEEK_CUR)
    for older in _rotated(path):
        if len(lines) >= count:
            break
        with older.open("rb") as file:
            lines = _last(file, count - len(lines), 0)[0] + lines
    return lines, newest


async def follow(path: Path, count: int, clock: Clock, *, on: bool) -> AsyncIterator[TimedLine]:
    """The last `count` lines and, when `on`, every later one, across rotations and restarts."""
    lines, file = await asyncio.to_thread(tail, path, count)
    try:
        for line in timed(list(map(readable, lines)), os.fstat(file.fileno()).st_mtime if file else clock.now()):
            yield line
        rest = b""
        while on:
            replaced = file is None or not _is_current(file, path)
            fresh = file.read(_BLOCK_BYTES) if file else b""
            *lines, rest = (rest + fresh).split(b"\n")
            for text in map(readable, lines):
                yield TimedLine(text, stamp(text) or clock.now())
            if fresh:
                continue
            if replaced and (newer := _open(path)):
                if file:
                    file.close()
                file, rest = newer, b""
            else:
                await clock.sleep(_FOLLOW_S)
    finally:
        if file:
            file.close()


def timed(texts: Sequence[str], changed_at: float) -> Iterator[TimedLine]:
    """Lines of a file that was last changed at `changed_at`, with times. Pure."""
    stamps = [stamp(text) for text in texts]
    at = next((found for found in stamps if found is not None), changed_at)
    for text, found in zip(texts, stamps, strict=True):
        at = at if found is None else found
        yield TimedLine(text, at)


def _rotated(path: Path) -> Iterator[Path]:
    """Older files, the newest of them first."""
    numbered = {int(p.suffix[1:]): p for p in path.parent.glob(f"{path.name}.*") if p.suffix[1:].isdecimal()}
    yield from (numbered[number] for number in sorted(numbered))


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _is_current(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _last(file: BinaryIO, count: int, since_byte: int) -> tuple[list[bytes], bytes]:
    """The last `count` complete lines of a file, and the unfinished one after them. Leaves the file at its end."""
    end = start = file.seek(0, os.SEEK_END)
    since_byte = since_byte if since_byte <= end else 0  # it was rotated since
    content = b""
    while start > since_byte and content.count(b"\n") <= count:
        size = min(_BLOCK_BYTES, start - since_byte)
        start -= size
        file.seek(start)
        content = file.read(size) + content
    file.seek(end)
    *lines, unfinished = content.split(b"\n")
    return (lines[-count:] if count else []), unfinished
