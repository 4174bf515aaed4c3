"""When a batch is released, and how large it is.

A handler that takes many rows at once costs about s(n) = a n + b seconds for n rows: `b` is paid once
per batch, so larger batches serve more rows a second, and a row that waits for others pays with its own
time. The rules, in order:

1. *A free slot is used at once*, for all calls that arrived in this turn of the loop. Timers would double
   the latency of a lone call, and gain nothing beyond rule 2.
2. *Gather while busy.* Calls that arrive while every slot is busy are the next batch; under load this
   fills batches.
3. *Rows are counted, not calls.* A batch never has more rows than `max_size`. A call is kept whole;
   one that alone is larger than `max_size` is cut by `parts` and put together again by the caller.
4. *A target bounds the size.* With `latency_s`, a batch takes as many rows as the learnt s(n) allows in
   the rest of the oldest row's time, but never fewer than a batch of half the target: a saturated
   slot makes each row wait for one batch and ride in the next, so that is the size it can sustain.
   A smaller one would lower the throughput and make every call later.
5. With `max_wait_s` above zero an idle slot is held for more calls, at most that long.

s(n) is learnt by `service_time`. Pure: state and time are values.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaon.laws.service_time import ServiceTime
from kaon.types.service import Batch


@dataclass(frozen=True, slots=True)
class Waiting:
    """The input of the decision: the rows of each waiting call, oldest first, and how busy the handler is."""

    rows: tuple[int, ...]
    """Of the calls that the next batch could take, and one more."""
    oldest_wait_s: float = 0.0
    running: int = 0
    """Batches at work now."""
    slots: int = 1
    """Batches that may work at once."""


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the first `calls` calls to the handler now."""

    calls: int
    rows: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Release nothing; decide again when something changes, or after `again_s` at the latest."""

    reason: str
    again_s: float | None = None


def decide(spec: Batch, cost: ServiceTime, waiting: Waiting) -> Release | Hold:
    """The decision on the waiting calls."""
    if not waiting.rows:
        return Hold("no calls are queued")
    if waiting.running >= waiting.slots:
        return Hold("gathering while busy")
    most = limit(spec, cost, waiting.oldest_wait_s)
    calls, rows = _prefix(waiting.rows, most)
    full = calls < len(waiting.rows) or rows >= most
    left_s = spec.max_wait_s - waiting.oldest_wait_s
    if not full and left_s > 0:
        return Hold("waiting for more calls", again_s=left_s)
    return Release(calls, rows, "full" if full else "a slot is free")


def limit(spec: Batch, cost: ServiceTime, oldest_wait_s: float) -> int:
    """The most rows that the next batch may have."""
    if spec.latency_s is None:
        return spec.max_size
    budget_s = max(spec.latency_s - oldest_wait_s, spec.latency_s / 2)
    fitting = cost.rows_within(budget_s)
    return spec.max_size if fitting is None else min(spec.max_size, max(1, fitting))


def _prefix(waiting: tuple[int, ...], limit: int) -> tuple[int, int]:
    """How many calls fit into `limit` rows, and their rows; the first one always goes."""
    rows = calls = 0
    for weight in waiting:
        if calls and rows + max(weight, 1) > limit:
            break
        rows += max(weight, 1)
        calls += 1
    return calls, rows


def parts(rows: int, max_size: int) -> tuple[tuple[int, int], ...]:
    """Where a call of `rows` rows is cut so that no part is above `max_size`: (start, stop) pairs."""
    if rows <= max_size:
        return ((0, rows),)
    return tuple((start, min(start + max_size, rows)) for start in range(0, rows, max_size))
