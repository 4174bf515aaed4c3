"""Records the calls in flight in a file that the agent can read without this process; see `kaon.types.flight`.

Two small writes to mapped memory per call, together a quarter of a microsecond: a crash gives no time to write them.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from kaon.types.flight import FILE_BYTES, SLOT, SLOTS

_write = SLOT.pack_into
_clear = struct.Struct("=d").pack_into


class Flights:
    """The calls in flight of one replica. Used on the loop's thread only."""

    def __init__(self, path: Path | None = None) -> None:
        """Record them in a new file at `path`; None: nowhere. Raises OSError."""
        self._map = mmap.mmap(-1, SLOT.size) if path is None else _mapped(path)
        self._free = [] if path is None else [at * SLOT.size for at in reversed(range(SLOTS))]

    def begin(self, request_id: str, deadline: float) -> int | None:
        """Record a call until `deadline` (`time.monotonic()`). Returns its slot, for `end`; None: none is free."""
        if not self._free:
            return None
        at = self._free.pop()
        _write(self._map, at, deadline, request_id.encode())
        return at

    def end(self, at: int | None) -> None:
        """Remove a call."""
        if at is not None:
            _clear(self._map, at, 0.0)
            self._free.append(at)


NOWHERE = Flights()


def _mapped(path: Path) -> mmap.mmap:
    """A new file: processes that have mapped the previous one keep it."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, FILE_BYTES)
        return mmap.mmap(descriptor, FILE_BYTES)
    finally:
        os.close(descriptor)
