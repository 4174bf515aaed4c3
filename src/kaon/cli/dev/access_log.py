"""The line that `kaon dev` prints for each call. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from kaon.cli.shared.text import clipped, plain, width

_RED, _YELLOW, _GREEN, _DIM, _END = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"
_MIN_PATH_COLUMNS = 12


@dataclass(frozen=True)
class AccessRecord:
    """A call and how it ended."""

    at: float
    """Epoch seconds of its end; printed in UTC, as `kaon logs` does."""
    method: str
    path: str
    status: int
    """0: the caller disconnected before the answer."""
    took_s: float


def access_line(access: AccessRecord, *, columns: int | None = None, coloured: bool = False) -> str:
    """Time, method, path, status and milliseconds, in one line of at most `columns`; only the path is cut."""
    at = datetime.fromtimestamp(access.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    method, path = plain(access.method), plain(access.path)
    status = str(access.status or "gone")
    took = f"{1000 * access.took_s:.{0 if access.took_s >= 0.1 else 1}f} ms"
    if columns is not None:
        others = width(f"{at}  {method:<4}   {status}  {took}")
        path = clipped(path, max(_MIN_PATH_COLUMNS, columns - others))
    if coloured:
        colour = _GREEN if 100 <= access.status < 400 else _YELLOW if access.status < 500 else _RED
        at, took, status = f"{_DIM}{at}{_END}", f"{_DIM}{took}{_END}", f"{colour}{status}{_END}"
    return f"{at}  {method:<4} {path}  {status}  {took}"
