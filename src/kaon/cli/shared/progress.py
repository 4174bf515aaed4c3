"""Progress on standard error: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self

from kaon.cli.shared.text import age, clipped, plain

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_S = 0.1
_SHOW_AFTER_S = 0.3
"""Shorter steps would only flicker."""


class ProgressLine:
    """`with ProgressLine() as progress: progress.show("Loading", "greeter-1-0")`."""

    def __init__(self) -> None:
        self._out = sys.stderr
        self._live = self._out.isatty()
        self._text = ""
        self._began = time.monotonic()
        self._done = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)

    @property
    def is_live(self) -> bool:
        """Whether it changes on a terminal."""
        return self._live

    def show(self, phase: str, reason: str = "") -> None:
        """Set the current step. An unchanged step is printed once."""
        text = plain(f"{phase}: {reason}" if reason else phase)
        if text != self._text and not self._live:
            self._out.write(text + "\n")
            self._out.flush()
        self._text = text

    def print(self, text: str) -> None:
        """Print a line that stays."""
        self._out.write(("\r\x1b[2K" if self._live else "") + plain(text) + "\n")
        self._out.flush()

    def _paint(self) -> None:
        frame = 0
        while not self._done.wait(_FRAME_S):
            waited_s = time.monotonic() - self._began
            if self._text and waited_s > _SHOW_AFTER_S:
                frame += 1
                line = f"{_FRAMES[frame % len(_FRAMES)]} {age(waited_s)} {self._text}"
                self._out.write(f"\r\x1b[2K{clipped(line, shutil.get_terminal_size().columns - 1)}")
                self._out.flush()

    def __enter__(self) -> Self:
        if self._live:
            self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._live:
            self._painter.join()
            self._out.write("\r\x1b[2K")
            self._out.flush()
