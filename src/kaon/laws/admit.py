"""Whether a call may come in, whether a waiting one is still worth beginning, and when a refused one should come back.

A queue helps as long as it is a burst: it empties, and everybody was served. A queue that stands helps nobody: it
serves as many calls a second as a short one, each of them late, and under a retry storm that is how goodput falls to
nothing, every slot at work on an answer that nobody reads any more. The rules, in order:

1. *A free slot takes whoever comes.* Nothing is refused while there is room to work.
2. *Memory is bounded, and shared.* A caller may have as many calls waiting as `_SHARE` times the room that is left: so
   one alone fills half of the queue, two a third each, and there is always room for the next one (dynamic thresholds,
   Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). A high priority may take more of it, a low one
   less.
3. *Who cannot be served in time is refused at once.* The expected wait is the rounds of work that go before, at the
   learnt time of a round, or what those of the same priority need at the pace at which they have moved on of late:
   a low priority waits for all who will yet come before it. That and the call's own time must fit into what its caller
   still waits. Doubt counts against
   the newcomer, who loses nothing: another replica may be free. Callers who hang up while they wait show how long
   callers wait who did not say so; the lane remembers it until its line is empty.
4. *A queue that stands is kept short.* When it has not been empty for an interval, only those come in who would wait
   for `_STANDING_ROUNDS` rounds at most (B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015, who took it from CoDel,
   RFC 8289). The bound is in rounds of the service's own time, so it needs no tuning and does not take a batch for
   congestion, as limits by the gradient of the round trip do.
5. *What is late anyway is not begun.* A call whose caller has less time left than it takes at best gives its slot to
   the next one. Here doubt counts for the call, which has waited.

A refused call is told when to come back: when what waits now has been served, and, since others were refused with it
and would all come at that moment, at a random time within what those need as well.

All is pure: times and random numbers come in as values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaon.types.key import Priority

_SMOOTHING = 0.1
_TRUSTED_AFTER = 8
"""Calls after which the learned time may refuse somebody."""
_SHARE = {Priority.HIGH: 4.0, Priority.NORMAL: 1.0, Priority.LOW: 0.25}
_STANDING_ROUNDS = 5
_STANDING_LEAST_S = 0.5
_INTERVAL_SHARE = 0.25
"""Of an endpoint's timeout: a burst may take so long until it counts as a queue that stands."""
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
        """Whether enough was seen to refuse somebody by it."""
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
    """How quickly those of one priority move on while some of them wait: time and rows, both fading."""

    waited_s: float = 0.0
    rows: float = 0.0
    at_s: float = 0.0

    def after(self, now_s: float, rows: int, memory_s: float) -> Pace:
        """At `now_s`, when `rows` more have moved on and some have waited ever since the last time."""
        passed_s = max(0.0, now_s - self.at_s)
        kept = math.exp(-passed_s / memory_s)
        return Pace(self.waited_s * kept + passed_s, self.rows * kept + rows, now_s)

    def again(self, now_s: float) -> Pace:
        """At `now_s`, when nobody has waited since the last time."""
        return Pace(self.waited_s, self.rows, now_s)

    @property
    def seconds(self) -> float:
        """Of a row; nothing while no row was seen to move."""
        return self.waited_s / self.rows if self.rows else 0.0


def memory_s(service: LearnedService) -> float:
    """Seconds after which a pace counts a third."""
    return 2 * standing_s(service)


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What a newcomer finds at an endpoint."""

    ahead: int
    """Rows that would be served before it, of its own priority and above, in its turn."""
    beside: int
    """Those among them that have its own priority."""
    per_round: int
    """Rows that a slot takes at once: 1, or a batch's."""
    busy: int
    slots: int
    service: LearnedService
    pace_s: float = 0.0
    """Seconds in which a row of its own priority moves on, of late; 0: not known."""
    standing: bool = False
    """Whether the queue stands; see `stands`."""

    @property
    def wait_s(self) -> float:
        """Expected seconds until the newcomer begins: full rounds ahead and the one that frees its slot, or longer."""
        rounds = self.ahead // self.per_round + self.busy - self.slots + 1
        return max(rounds * self.service.seconds / self.slots, self.beside * self.pace_s, 0.0)


@dataclass(frozen=True, slots=True)
class QueueRoom:
    """How many calls wait: all, those of the newcomer's key, and as many as may."""

    calls: int
    own: int
    bound: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """Come in."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not now."""

    reason: str


def decide(
    load: QueueLoad, room: QueueRoom, patience_s: float, priority: Priority = Priority.NORMAL
) -> Admitted | Refused:
    """Whether a call whose caller waits `patience_s` seconds (infinity: for ever) may come in."""
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
    """Seconds that a call may wait in a queue that stands."""
    return max(_STANDING_LEAST_S, _STANDING_ROUNDS * service.seconds)


def stands(empty_before_s: float, timeout_s: float | None) -> bool:
    """Whether a queue that was empty `empty_before_s` seconds ago is no burst any more."""
    least_s, most_s = _INTERVAL_S
    interval_s = most_s if timeout_s is None else min(max(timeout_s * _INTERVAL_SHARE, least_s), most_s)
    return empty_before_s > interval_s


def late(service: LearnedService, left_s: float) -> bool:
    """Whether a call whose caller waits for `left_s` seconds more would be answered too late if it began now."""
    return service.trusted and left_s < service.seconds - service.deviation_s


def patience_s(service: LearnedService, waited_s: float) -> float:
    """What callers are thought to wait when one hung up after `waited_s`: less, for those in a greater hurry.

    Infinity when that was so soon that it says nothing of the queue.
    """
    telling = service.trusted and waited_s > max(_TELLING_LEAST_S, _STANDING_ROUNDS * service.seconds)
    return _HURRY * waited_s if telling else math.inf


@dataclass(frozen=True, slots=True)
class RefusalPace:
    """How many calls were turned away within about the last second: a count that fades."""

    count: float = 0.0
    at_s: float = -math.inf

    def more(self, now_s: float) -> RefusalPace:
        """One more at `now_s` (monotonic)."""
        return RefusalPace(1 + self.count * math.exp(min(0.0, self.at_s - now_s) / _MEMORY_S), now_s)


def retry_after_s(load: QueueLoad, turned: RefusalPace, chance: float) -> float:
    """Seconds after which a refused call should come back; `chance` is uniform in 0..1.

    With 10 rounds of 0.2 s ahead of two slots, and 40 calls turned away with this one: 1.1 s and up to 4 s more.
    """
    per_call_s = load.service.seconds / load.slots / load.per_round
    wait_s = max(load.wait_s, _LEAST_RETRY_S)
    spread_s = max(wait_s, turned.count * per_call_s)
    return round(min(wait_s + chance * spread_s, _LONGEST_RETRY_S * (0.5 + chance / 2)), 3)
