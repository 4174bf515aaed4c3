"""The progress of a push or pull in one line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.text import size

_SHOW_EVERY_S = 0.2


class ByteSteps:
    """Shows how many bytes of a step are done, and how fast."""

    def __init__(self, line: ProgressLine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._line = line
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._step = ""
        self._total_bytes = self._done_bytes = 0
        self._began = self._shown = 0.0

    def begin(self, step: str, size_bytes: int) -> None:
        """See `kaon.datasets.push.Steps`."""
        with self._lock:
            self._step, self._total_bytes, self._done_bytes = step, size_bytes, 0
            self._began = self._shown = self._monotonic()
        self._line.show(step, size(size_bytes))

    def add(self, size_bytes: int) -> None:
        """See `kaon.datasets.push.Steps`."""
        with self._lock:
            self._done_bytes += size_bytes
            now = self._monotonic()
            if not self._line.is_live or now - self._shown < _SHOW_EVERY_S:
                return
            self._shown = now
            speed = self._done_bytes / max(now - self._began, 0.001)
            text = f"{size(self._done_bytes)} of {size(self._total_bytes)}, {size(int(speed))}/s"
        self._line.show(self._step, text)
