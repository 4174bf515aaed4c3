"""Admission of calls: which are queued, which queued ones are still started, and when refused ones should come back.

A queue is useful for a burst: it empties, and all calls are served. A standing queue is not: it serves as many calls a
second as a short one, each of them late, and during a retry storm goodput falls to nothing, since every slot works on
answers that no caller waits for any more. The rules, in order:

1. *A free slot takes any call.* Nothing is refused while a slot is free.
2. *The queue is bounded, and shared.* A key may have at most `_SHARE` times the remaining room queued: one key alone
   fills half of the queue, two fill a third each, and there is always room for another one (dynamic thresholds,
   Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). A high priority has a larger share, a low one a
   smaller.
3. *A call that cannot be served in time is refused at once.* The expected wait is the rounds of work ahead, at the
   learnt time of a round, or longer by the recent pace of its own priority: a low priority also waits for calls that
   will come before it. The wait and the call's own time must fit into its caller's patience. Uncertainty counts
   against the new call: another replica may be free. Callers who hang up while they wait show the patience of callers
   without a deadline; the lane remembers it until its queue is empty.
4. *A standing queue is kept short.* When it has not been empty for an interval, a call is queued only if it would wait
   for at most `_STANDING_ROUNDS` rounds (B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015, after CoDel, RFC 8289).
   The bound is in rounds of the service's own time, so it needs no tuning and does not mistake a batch for
   congestion, as limits by the gradient of the round trip do.
5. *A late call is not started.* A call whose caller has less time left than its shortest expected time gives its slot
   to the next one. Here uncertainty counts for the call, which has waited.

A refused call gets a time to come back: after all calls that wait now, plus a random time within the work of those
that were refused with it, so that they do not all come back at the same moment.

Pure: times and random numbers are values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.types.key import Priority

_SMOOTHING = 0.1
_TRUSTED_AFTER = 8
"""Calls after which calls may be refused by the learnt time."""
_SHARE = {Priority.HIGH: 4.0, Priority.NORMAL: 1.0, Priority.LOW: 0.25}
_STANDING_ROUNDS = 5
_STANDING_LEAST_S = 0.5
_INTERVAL_SHARE = 0.25
"""Share of an endpoint's timeout after which a queue that was never empty is a standing one."""
_INTERVAL_S = (1.0, 15.0)
_HURRY = 0.8
_TELLING_LEAST_S = 0.1
_LEAST_RETRY_S = 0.1
_LONGEST_RETRY_S = 60.0
_MEMORY_S = 1.0


@dataclass(frozen=True, slots=True)
class LearnedService:
    """How long a round of work (a call, or a batch of them) takes: mean and mean deviation, exponentially smoothed.

    The deviation is what Jacobson's retransmission timer uses ("Congestion Avoidance and Control", SIGCOMM 1988).
    """

    seconds: float = 0.0
    deviation_s: float = 0.0
    samples: int = 0

    @property
    def trusted(self) -> bool:
        """Whether calls may be refused by it."""
        return self.samples >= _TRUSTED_AFTER


def learn(service: LearnedService, seconds: float, rounds: int = 1) -> LearnedService:
    """`service` after `rounds` rounds that held their slots for `seconds` each."""
    if service.samples == 0:
        return LearnedService(seconds, 0.0, rounds)
    kept = (1 - _SMOOTHING) ** rounds
    surprise_s = abs(seconds - service.seconds)
    return LearnedService(
        service.seconds * kept + seconds * (1 - kept),
        service.deviation_s * kept + surprise_s * (1 - kept),
        service.samples + rounds,
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the calls of one priority leave the queue while some wait: time and rows, both fading."""

    waited_s: float = 0.0
    rows: float = 0.0
    at_s: float = 0.0

    def after(self, now_s: float, rows: int, memory_s: float) -> Pace:
        """The pace at `now_s`, after `rows` more have left and some have waited since the last time."""
        passed_s = max(0.0, now_s - self.at_s)
        kept = math.exp(-passed_s / memory_s)
        return Pace(self.waited_s * kept + passed_s, self.rows * kept + rows, now_s)

    def again(self, now_s: float) -> Pace:
        """The pace at `now_s`, when none have waited since the last time."""
        return Pace(self.waited_s, self.rows, now_s)

    @property
    def seconds(self) -> float:
        """Seconds per row; 0 before the first row."""
        return self.waited_s / self.rows if self.rows else 0.0


def memory_s(service: LearnedService) -> float:
    """Seconds after which a pace has a third of its weight."""
    return 2 * standing_s(service)


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of an endpoint, as a new call finds it."""

    ahead: int
    """Rows that would be served before it, of its own priority and above."""
    beside: int
    """Of these, those of its own priority."""
    per_round: int
    """Rows that a slot takes at once: 1, or a batch's."""
    busy: int
    slots: int
    service: LearnedService
    pace_s: float = 0.0
    """Recent seconds per row of its own priority; 0: unknown."""
    standing: bool = False
    """Whether the queue is a standing one; see `stands`."""

    @property
    def wait_s(self) -> float:
        """Expected seconds until the new call starts: full rounds ahead and the one that frees its slot, or longer."""
        rounds = self.ahead // self.per_round + self.busy - self.slots + 1
        return max(rounds * self.service.seconds / self.slots, self.beside * self.pace_s, 0.0)


@dataclass(frozen=True, slots=True)
class QueueRoom:
    """The number of queued calls, of those with the new call's key, and the limit."""

    calls: int
    own: int
    bound: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call is queued or started."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is refused."""

    reason: str


def decide(
    load: QueueLoad, room: QueueRoom, patience_s: float, priority: Priority = Priority.NORMAL
) -> Admitted | Refused:
    """The decision on a call whose caller waits `patience_s` seconds (infinity: for ever)."""
    if room.own >= _SHARE[priority] * (room.bound - room.calls):
        return Refused(f"{room.calls} calls are queued, {room.own} of them with this key: the limit")
    if not load.service.trusted or load.wait_s <= 0:
        return Admitted()
    service = load.service
    needed_s = load.wait_s + service.seconds + service.deviation_s
    if needed_s > patience_s:
        return Refused(
            f"{room.calls} calls are queued; this one would take about {needed_s:.2g} s, and has {patience_s:.2g} s"
        )
    if load.standing and load.wait_s > standing_s(service):
        return Refused(f"{room.calls} calls are queued, and more arrive than can be served")
    return Admitted()


def standing_s(service: LearnedService) -> float:
    """Seconds that a call may wait in a standing queue."""
    return max(_STANDING_LEAST_S, _STANDING_ROUNDS * service.seconds)


def stands(empty_before_s: float, timeout_s: float | None) -> bool:
    """Whether a queue that was last empty `empty_before_s` seconds ago is a standing one."""
    least_s, most_s = _INTERVAL_S
    interval_s = most_s if timeout_s is None else min(max(timeout_s * _INTERVAL_SHARE, least_s), most_s)
    return empty_before_s > interval_s


def late(service: LearnedService, left_s: float) -> bool:
    """Whether a call whose caller waits for another `left_s` seconds would be late if it started now."""
    return service.trusted and left_s < service.seconds - service.deviation_s


def patience_s(service: LearnedService, waited_s: float) -> float:
    """The assumed patience of callers when one hung up after `waited_s`: a little less than that.

    Infinity when it was too soon to be caused by the queue.
    """
    telling = service.trusted and waited_s > max(_TELLING_LEAST_S, _STANDING_ROUNDS * service.seconds)
    return _HURRY * waited_s if telling else math.inf


@dataclass(frozen=True, slots=True)
class RefusalPace:
    """The number of calls refused within about the last second: a fading count."""

    count: float = 0.0
    at_s: float = -math.inf

    def more(self, now_s: float) -> RefusalPace:
        """The pace with one more at `now_s` (monotonic)."""
        return RefusalPace(1 + self.count * math.exp(min(0.0, self.at_s - now_s) / _MEMORY_S), now_s)


def retry_after_s(load: QueueLoad, turned: RefusalPace, chance: float) -> float:
    """Seconds after which a refused call should come back; `chance` is uniform in 0..1.

    With 10 rounds of 0.2 s ahead of two slots, and 40 calls refused with this one: 1.1 s and up to 4 s more.
    """
    per_call_s = load.service.seconds / load.slots / load.per_round
    wait_s = max(load.wait_s, _LEAST_RETRY_S)
    spread_s = max(wait_s, turned.count * per_call_s)
    return round(min(wait_s + chance * spread_s, _LONGEST_RETRY_S * (0.5 + chance / 2)), 3)
