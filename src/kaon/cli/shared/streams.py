"""Standard streams that are not UTF-8, are closed, or lose their reader. Commands need not handle that.

Characters that the encoding does not have are written as JSON escapes, so that a document stays a document.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress

from kaon.cli.shared.text import json_escape

_HANDLER = "kaon-json-escape"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json_escape(error.object[error.start : error.end]), error.end


def prepare() -> None:
    """Make sure that no character fails to be written, and that all three streams exist."""
    codecs.register_error(_HANDLER, _escape)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def flush_or_discard() -> None:
    """Flush both output streams; discard further output of one whose reader has ended."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    os.close(null)
