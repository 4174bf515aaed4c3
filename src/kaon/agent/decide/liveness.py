"""Whether a replica that does not answer is busy or hung. Pure.

Silence alone is no sign of death: a coroutine that blocks, an import, and native code that holds the interpreter's lock
all keep a healthy process from answering. What tells is outside of its interpreter: that the process exists, and the
deadlines of its calls in flight, which it noted before it began them (`kaon.types.flight`). It is busy while one of
them has time left, and hung when all of them should have ended a while ago. A replica that starts is busy for as
long as a start may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.types.flight import Flight

HUNG_S = 10.0
"""How long a replica may be silent without a call that would still be in time."""

START_S = 60.0
"""How long one that starts may be silent at least."""


@dataclass(frozen=True)
class Silence:
    """What is to be thought of a silent replica."""

    reason: str
    busy: bool = False
    """A call in flight has time left: it will answer when that is done."""
    hung: bool = False
    """It will not answer any more."""


def judge(silent_s: float, flights: Sequence[Flight], start_s: float | None) -> Silence:
    """Of a replica that has been silent for `silent_s`. `start_s`: how long its start may take; None: it was ready."""
    if start_s is not None:
        return _silence(silent_s >= max(START_S, start_s), silent_s, "a start may take no longer")
    in_time = sum(flight.left_s > 0 for flight in flights)
    if in_time:
        calls = "1 call is" if in_time == 1 else f"{in_time} calls are"
        return Silence(f"It does not answer; {calls} still within the time limit.", busy=True)
    overdue_s = min([silent_s, *(-flight.left_s for flight in flights)])
    return _silence(overdue_s >= HUNG_S, silent_s, "no call in flight has time left")


def _silence(hung: bool, silent_s: float, why: str) -> Silence:
    if not hung:
        return Silence("It does not answer.")
    stacks = "the stacks of its threads are in its log"
    return Silence(f"It did not answer for {silent_s:.0f} s, and {why}; {stacks}.", hung=True)
