"""Standard output and error as they may be: not UTF-8, closed, or ended by their reader. No command must know.

What an encoding cannot say is spelled as JSON would, so that a document stays a document; what nobody reads is let go.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress

_SPELLED = "kaon-spelled"


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


def prepare() -> None:
    """Make the standard streams such that nothing that is written to them fails for its characters."""
    codecs.register_error(_SPELLED, _spell)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SPELLED)


def let_go() -> None:
    """Write to nobody from now on: the reader has gone."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nobody, stream.fileno())
    os.close(nobody)


def finish() -> None:
    """Write what is left, so that the interpreter's own end has nothing to complain of."""
    let_go()
