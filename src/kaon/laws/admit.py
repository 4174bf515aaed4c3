"""Whether a call may come in, and when a refused one should come back.

Two bounds keep a busy replica honest. The *queue* is bounded, so that memory and waiting are. And a call
that would wait longer than its caller does is refused at once: to start it late would spend a slot on an
answer that nobody reads, which under a retry storm is how goodput falls to nothing.

A refusal names the time after which the queue will have room, from its length and the learned time that
one call holds a slot: Retry-After = (queue + 1) x service time / slots.
"""

from __future__ import annotations

from dataclasses import dataclass

_SMOOTHING = 0.1
_TRUSTED_AFTER = 8
"""Calls after which the learned service time may refuse somebody."""
_LEAST_RETRY_S = 0.1
_LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """What one call costs: seconds that it holds a slot (exponentially smoothed), and how many were seen."""

    seconds: float = 0.0
    samples: int = 0


def learn(service: Service, seconds: float, calls: int = 1) -> Service:
    """`service` after `calls` calls held their slots (or their shares of a batch's) for `seconds` each."""
    if service.samples == 0:
        return Service(seconds, calls)
    kept = (1 - _SMOOTHING) ** calls
    return Service(service.seconds * kept + seconds * (1 - kept), service.samples + calls)


@dataclass(frozen=True, slots=True)
class Load:
    """What is going on at an endpoint."""

    queued: int
    queue_bound: int
    slots: int
    service: Service


@dataclass(frozen=True, slots=True)
class Admitted:
    """Come in."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Come back after `retry_after_s`."""

    reason: str
    retry_after_s: float


def decide(load: Load, patience_s: float | None) -> Admitted | Refused:
    """Whether a call whose caller waits `patience_s` (None: for ever) may come in."""
    expected_s = load.queued * load.service.seconds / load.slots
    if load.queued >= load.queue_bound:
        return Refused(f"{load.queued} calls wait already, as many as may", retry_after_s(load))
    trusted = load.service.samples >= _TRUSTED_AFTER
    if patience_s is not None and trusted and expected_s > patience_s:
        reason = f"{load.queued} calls wait already; this one would wait {expected_s:.1f} s, and has {patience_s:.1f} s"
        return Refused(reason, retry_after_s(load))
    return Admitted()


def retry_after_s(load: Load) -> float:
    """Seconds after which what waits now will have been served."""
    wait_s = (load.queued + 1) * load.service.seconds / load.slots
    return round(min(max(wait_s, _LEAST_RETRY_S), _LONGEST_RETRY_S), 3)
