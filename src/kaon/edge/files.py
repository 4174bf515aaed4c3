"""Files that another process follows: written under another name and renamed, so that they are never incomplete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def put(path: Path, document: dict[str, Any]) -> bool:
    """Write `document` to `path` as JSON; returns whether that changed the file. Equal content is not written."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, new = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        Path(new).rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
    return True


def get(path: Path) -> dict[str, Any] | None:
    """The document at `path`; None when there is none or it cannot be read."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def rotate(log: Path, limit_bytes: int) -> None:
    """Truncate a log that is longer than `limit_bytes`, and keep one copy of its text.

    For logs to which a process appends through its own descriptor: the text is moved, not the file.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(log, log.with_suffix(log.suffix + ".1"))
    os.truncate(log, 0)
