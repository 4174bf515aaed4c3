"""Progress and metrics of running attempts: in memory, written to the job's row from time to time and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kaon.laws.jobs import thinned
from kaon.store.snapshot import Changed
from kaon.types.job import AttemptNews, JobMetrics, MetricPoint, Progress

ATTEMPTS_MOST = 10_000
POINTS_MOST = 1000
"""Points of an attempt in memory; when there are more, they are thinned."""
CHECKPOINT_S = 15.0


class _News:
    def __init__(self) -> None:
        self.progress = Progress()
        self.points: list[MetricPoint] = []
        self.written_at = 0.0
        self.waiting: set[Changed] = set()


class JobNews:
    """The newest of each attempt, by its id."""

    def __init__(self) -> None:
        self._attempts: dict[str, _News] = {}

    def take(self, attempt: str, news: AttemptNews, now: float) -> bool:
        """Add what an agent sent. Returns whether the job's row is due to be written."""
        found = self._attempts.pop(attempt, None) or _News()
        self._attempts[attempt] = found  # the newest last
        while len(self._attempts) > ATTEMPTS_MOST:
            del self._attempts[next(iter(self._attempts))]
        found.progress = news.progress
        last = found.points[-1].step if found.points else -1
        found.points += [point for point in news.points if point.step > last]
        if len(found.points) > POINTS_MOST:
            found.points[:] = thinned(found.points)
        for changed in found.waiting:
            changed.set()
        if now - found.written_at < CHECKPOINT_S:
            return False
        found.written_at = now
        return True

    def of(self, attempt: str) -> JobMetrics | None:
        """All of an attempt; None: nothing was sent to this server."""
        found = self._attempts.get(attempt)
        return JobMetrics(progress=found.progress, points=tuple(found.points)) if found else None

    def forget(self, attempt: str) -> None:
        """Remove an attempt that has ended; its last values are in the job's row."""
        self._attempts.pop(attempt, None)

    @contextmanager
    def changes_of(self, attempt: str, changed: Changed) -> Iterator[None]:
        """Inside the context, set `changed` whenever something of an attempt arrives."""
        waiting = self._attempts.setdefault(attempt, _News()).waiting
        waiting.add(changed)
        try:
            yield
        finally:
            waiting.discard(changed)
