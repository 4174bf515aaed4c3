"""Files that another process follows: written beside their place and renamed into it, never seen half-written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def put(path: Path, document: dict[str, Any]) -> bool:
    """Let `path` hold `document` as JSON; whether that changed anything. Equal content is left alone."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, beside = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        Path(beside).rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    return True


def get(path: Path) -> dict[str, Any] | None:
    """The document at `path`, None when there is none or it makes no sense."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def rotate(log: Path, limit_bytes: int) -> None:
    """Begin a log anew when it is longer than `limit_bytes`, and keep one old one.

    For logs that a process appends to through a descriptor of its own: the text is moved, not the file.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(log, log.with_suffix(log.suffix + ".1"))
    os.truncate(log, 0)
