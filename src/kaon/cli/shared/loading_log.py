"""The log lines of a replica whose constructor takes long, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from kaon.cli.shared.log_lines import log_text
from kaon.drivers.port import LogLine
from kaon.errors import KaonError
from kaon.types.replica import Phase, ReplicaStatus

LINES = 200
"""Of each read; of a replica that writes more in a period, the last ones are shown."""
PERIOD_S = 1.0
"""Between two reads. A replica that loads for less is not read."""


class LoadingLog:
    """Follows the replica that is waited for; `read` returns the last `LINES` lines of a replica, by its id."""

    def __init__(self, read: Callable[[str], Iterable[LogLine]]) -> None:
        self._read = read
        self._replica = ""
        self._read_at = 0.0
        self._lines: list[LogLine] | None = None

    def new_lines(self, replica: ReplicaStatus | None, now: float) -> list[str]:
        """The lines to print at `now`, in seconds of a monotonic clock; the last ones when it no longer loads."""
        loading = replica.id if replica is not None and replica.phase is Phase.LOADING else ""
        if loading == self._replica:
            if not loading or now - self._read_at < PERIOD_S:
                return []
            self._read_at = now
            return self._unread()
        last = [] if self._lines is None else self._unread()
        self._replica, self._read_at, self._lines = loading, now, None
        return last

    def _unread(self) -> list[str]:
        before, lines = self._lines or [], []
        with suppress(KaonError):  # the wait goes on without them
            lines = list(self._read(self._replica))
            self._lines = lines
        return [text for line in added(before, lines) for text in log_text(line)]


def added(before: Sequence[LogLine], after: Sequence[LogLine]) -> Sequence[LogLine]:
    """The lines of `after`, the end of a log, that follow those of `before`, an earlier end of it. Pure."""
    known = next(n for n in range(min(len(before), len(after)), -1, -1) if before[len(before) - n :] == after[:n])
    return after[known:]
