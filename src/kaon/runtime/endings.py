"""How a process of the runtime ends: in time, and with tracebacks of the user's code alone."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType

_ENDING_S = 5.0
"""How long the interpreter's end may take: non-daemon threads and exit functions of the user's code."""


def end_in_time(code: int) -> None:
    """End this process with `code` in 5 s at the latest."""
    threading.Thread(target=_end, args=(code,), daemon=True).start()


def _end(code: int) -> None:
    time.sleep(_ENDING_S)
    os._exit(code)


def from_the_module(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the leading frames of Kaon, asyncio and importlib; all of it when no others follow."""
    internal = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent), importlib.__path__[0], "<frozen")
    rest = frames
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith(internal):
        rest = rest.tb_next
    return rest or frames
