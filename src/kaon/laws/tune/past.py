"""The past of a deployment for its twin: arrivals and outcomes over two hours, and minutes over a week.

Arrivals are kept as counts per second: they do not depend on the knobs, so they can be replayed. Everything else is
summed over steps of ten seconds, in flat arrays, so that a deployment's past is about half a megabyte. Every five
minutes there is a snapshot of the ready replicas and of the scaling law's state. An episode that begins at a snapshot
has that state; one from older minutes has none, and begins with a part that is not scored.

Missing and zero are different here too: a step has the number of seconds that it covers.
"""

from __future__ import annotations

import copy
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kaon.laws.traffic import observation
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.traffic import LATENCY_BOUNDS_S, LatencyCounts, Sample

KEPT_S = 7500
"""Seconds that are kept: two hours, and the time by which an episode may begin earlier."""
STEP_S = 10
SNAPSHOT_S, FINE_S = 300.0, 2700.0
WEEK_MINUTES = 7 * 1440
MOST_STARTS = 64
MINUTE_S = 60

_STEPS = KEPT_S // STEP_S
_BUCKETS = len(LATENCY_BOUNDS_S) + 1
_BATCH_FIELDS = tuple(Batches.model_fields)
_FIELDS = ("covered_s", "answered", "missed", "busy_s", "ready_s", "paid_s", "queue_s", "began", *_BATCH_FIELDS)
_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class PastSnapshot:
    """The start of an episode: ready replicas, and the state of the scaling law."""

    at_s: float
    ready: int
    state: Any


@dataclass(frozen=True, slots=True)
class PastSums:
    """Sums over a span."""

    covered_s: float
    arrivals: int
    answered: float
    missed: float
    busy_s: float
    ready_s: float
    paid_s: float
    queue_s: float
    began: float
    batches: Batches
    latency: LatencyCounts


@dataclass(frozen=True, slots=True)
class Stretch:
    """A span of traffic that can be replayed: calls by the second from `begin_s` on, and the state at its start.

    Its first `led_in_s` are not scored: in them a law without a state learns.
    """

    begin_s: float
    counts: array[int]
    ready: int | None
    """Replicas; None: unknown."""
    state: Any
    led_in_s: float = 0.0
    burst: bool = False

    @property
    def until_s(self) -> float:
        """Its end."""
        return self.begin_s + len(self.counts)


class Past:
    """The past of one deployment. Times are epoch seconds, or those of another clock that the law has too."""

    def __init__(self) -> None:
        self.until_s = 0.0
        """The end of the newest second."""
        self.starts_s: deque[float] = deque(maxlen=MOST_STARTS)
        """The time of the last starts, from order to ready."""
        self.snapshots: deque[PastSnapshot] = deque()
        self._arrivals = array("I", bytes(4 * KEPT_S))
        self._steps = array("d", bytes(8 * len(_FIELDS) * _STEPS))
        self._latency = array("I", bytes(4 * _BUCKETS * _STEPS))
        self._minutes = array("i", [_UNKNOWN]) * WEEK_MINUTES
        self._newest = -1
        self._newest_minute = -1

    def sample(self, sample: Sample, objective: Objective) -> None:
        """Add a sample of agents: of one revision in a second, or a sum over ten."""
        counts = observation([sample], sample.at_s, sample.span_s, objective)
        paid_s = sample.paid_s
        self.second(
            sample.at_s,
            sample.arrivals or 0,
            span_s=sample.span_s,
            batches=sample.batches,
            ready=sample.ready,
            starting=sample.starting,
            answered=counts.answered or 0,
            missed=counts.missed or 0,
            latency=sample.latency,
            busy_s=sample.busy_s or 0.0,
            ready_s=sample.ready_s,
            paid_s=paid_s,
            queue_s=sample.queue_s or 0.0,
            began=sample.began or 0,
        )
        self.starts_s.extend(start.total_s for start in sample.starts)

    def second(
        self,
        at_s: float,
        arrivals: int,
        *,
        span_s: float = 1.0,
        batches: Batches | None = None,
        ready: int = 0,
        starting: int = 0,
        cold_start_s: float | None = None,
        answered: int = 0,
        missed: int = 0,
        latency: LatencyCounts | None = None,
        busy_s: float = 0.0,
        ready_s: float | None = None,
        paid_s: float | None = None,
        queue_s: float = 0.0,
        began: int = 0,
    ) -> None:
        """Add counts over `span_s` that end at `at_s`; several of one time add up, late ones too.

        Those that are older than the kept time are dropped.
        """
        if span_s <= 0:
            return
        last = max(round(at_s), 1)
        first = min(round(at_s - span_s), last - 1)
        self._make_room(last)
        if first <= self._newest - KEPT_S:
            return
        for second, count in zip(range(first, last), _shared(arrivals, last - first), strict=True):
            self._arrivals[second % KEPT_S] += count
            place = second // MINUTE_S % WEEK_MINUTES
            self._minutes[place] = max(0, self._minutes[place]) + count
        self.until_s = max(self.until_s, at_s)
        if cold_start_s is not None:
            self.starts_s.append(cold_start_s)
        ready_s = ready * span_s if ready_s is None else ready_s
        paid_s = max(ready_s, (ready + starting) * span_s) if paid_s is None else paid_s
        batches = batches or Batches()
        amounts = (answered, missed, busy_s, ready_s, paid_s, queue_s, began)
        self._add(first, last, (*amounts, *(getattr(batches, name) for name in _BATCH_FIELDS)))
        row = (first // STEP_S % _STEPS) * _BUCKETS
        for bucket, count in (latency or {}).items():
            self._latency[row + bucket] += count

    def snapshot(self, at_s: float, ready: int, state: Any) -> None:
        """Add a snapshot. Of older ones every third is kept, since the state of a law is large."""
        kept = [s for s in self.snapshots if s.at_s >= at_s - FINE_S or int(s.at_s / SNAPSHOT_S) % 3 == 0]
        self.snapshots = deque(s for s in kept if s.at_s >= at_s - KEPT_S + STEP_S)
        self.snapshots.append(PastSnapshot(at_s, ready, state))

    def minutes(self, minutes: Iterable[tuple[float, int]]) -> None:
        """Add older minutes: the end of each, and its calls; several of one minute add up.

        Minutes that are known already do not change.
        """
        calls: dict[int, int] = {}
        for end_s, count in minutes:
            minute = round(end_s / MINUTE_S) - 1
            calls[minute] = calls.get(minute, 0) + count
        self._make_room_for_minutes(max(calls, default=-1))
        for minute, count in calls.items():
            if minute > self._newest_minute - WEEK_MINUTES and self._minutes[minute % WEEK_MINUTES] == _UNKNOWN:
                self._minutes[minute % WEEK_MINUTES] = count

    def copied(self) -> Past:
        """A copy that does not change, for a query to the twin. It takes a fraction of a millisecond."""
        other = copy.copy(self)
        for name in ("starts_s", "snapshots", "_arrivals", "_steps", "_latency", "_minutes"):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    # Reading

    def counts(self, from_s: float, until_s: float) -> array[int]:
        """Calls by the second; seconds that are not kept count as without calls."""
        first, last = round(from_s), round(until_s)
        kept = range(self._newest - KEPT_S + 1, self._newest + 1)
        return array("I", (self._arrivals[s % KEPT_S] if s in kept else 0 for s in range(first, last)))

    def sums(self, from_s: float, until_s: float) -> PastSums:
        """Sums from one time to another, in whole steps."""
        first, last = round(from_s / STEP_S), round(until_s / STEP_S)
        newest = self._newest // STEP_S
        steps = [step % _STEPS for step in range(max(first, newest - _STEPS + 1), min(last, newest + 1))]
        width = len(_FIELDS)
        found = {name: sum(self._steps[step * width + i] for step in steps) for i, name in enumerate(_FIELDS)}
        latency = [sum(self._latency[step * _BUCKETS + bucket] for step in steps) for bucket in range(_BUCKETS)]
        sums = {name: found.pop(name) for name in _BATCH_FIELDS}
        batches = Batches(**sums | {"count": round(sums["count"])})  # a sample over two steps is shared between them
        return PastSums(
            arrivals=sum(self.counts(first * STEP_S, last * STEP_S)),
            batches=batches,
            latency={bucket: count for bucket, count in enumerate(latency) if count},
            **found,
        )

    def minute(self, number: int) -> int | None:
        """Calls of the minute that began `number` minutes after the epoch; None: unknown."""
        if not self._newest_minute - WEEK_MINUTES < number <= self._newest_minute:
            return None
        calls = self._minutes[number % WEEK_MINUTES]
        return None if calls == _UNKNOWN else calls

    def snapshot_at(self, at_s: float) -> PastSnapshot | None:
        """The last snapshot before `at_s`, else the first after it; None: there is none."""
        before = [s for s in self.snapshots if s.at_s <= at_s]
        return before[-1] if before else next(iter(self.snapshots), None)

    def stretch(self, snapshot: PastSnapshot, until_s: float, *, burst: bool = False) -> Stretch:
        """The stretch from a snapshot on."""
        counts = self.counts(snapshot.at_s, until_s)
        return Stretch(float(round(snapshot.at_s)), counts, max(1, snapshot.ready), snapshot.state, burst=burst)

    def _make_room(self, last: int) -> None:
        """Make room for seconds up to `last`."""
        newest = last - 1
        if newest <= self._newest:
            return
        for second in range(max(self._newest + 1, newest - KEPT_S + 1), newest + 1):
            self._arrivals[second % KEPT_S] = 0
        step, width = self._newest // STEP_S, len(_FIELDS)
        for new in range(max(step + 1, newest // STEP_S - _STEPS + 1), newest // STEP_S + 1):
            row = new % _STEPS
            self._steps[row * width : (row + 1) * width] = array("d", bytes(8 * width))
            self._latency[row * _BUCKETS : (row + 1) * _BUCKETS] = array("I", bytes(4 * _BUCKETS))
        self._newest = newest
        self._make_room_for_minutes(newest // MINUTE_S)

    def _make_room_for_minutes(self, minute: int) -> None:
        """Make room for minutes up to `minute`."""
        for new in range(max(self._newest_minute + 1, minute - WEEK_MINUTES + 1), minute + 1):
            self._minutes[new % WEEK_MINUTES] = _UNKNOWN
        self._newest_minute = max(self._newest_minute, minute)

    def _add(self, first: int, last: int, amounts: tuple[float, ...]) -> None:
        """Share `amounts` over the steps that seconds `first` to `last` are in."""
        width = len(_FIELDS)
        for step in range(first // STEP_S, (last - 1) // STEP_S + 1):
            inside = min(last, (step + 1) * STEP_S) - max(first, step * STEP_S)
            row, share = step % _STEPS * width, inside / (last - first)
            self._steps[row] += inside
            for i, amount in enumerate(amounts, start=1):
                self._steps[row + i] += amount * share


def _shared(count: int, parts: int) -> list[int]:
    """`count` split into whole numbers as equal as possible."""
    return [count * (i + 1) // parts - count * i // parts for i in range(parts)]
