"""Whether a replica that does not answer is busy or hung. Pure.

Silence alone proves nothing: a blocking coroutine, an import, or native code that holds the interpreter's lock keeps a
healthy process from answering. The evidence is outside of its interpreter: the process exists, and the deadlines of its
calls in flight, which it recorded before it began them (`kaon.types.flight`). It is busy while one of them has time
left, and hangs when all of them should have ended a while ago. A starting replica is busy for as long as a start may
take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.agent.decide.inputs import AgentInputs, ProbedHealth, ReplicaHistory
from kaon.types.flight import Flight

MISSES = 2
"""Probes in a row without an answer after which a replica gets no more requests."""

HUNG_S = 10.0
"""How long a replica may be silent with no call within its time limit."""

START_S = 60.0
"""How long a starting replica may be silent at least."""


@dataclass(frozen=True)
class Silence:
    """What the silence of a replica means."""

    reason: str
    busy: bool = False
    """A call in flight has time left: it will answer when that is done."""
    hung: bool = False
    """It hangs, and is to be stopped."""


def silence_of(history: ReplicaHistory, health: ProbedHealth, inputs: AgentInputs) -> Silence | None:
    """What the silence of a replica means; None: it answers."""
    if health.silent_since is None or health.misses < MISSES:
        return None
    assert history.spec is not None
    flights = inputs.flights.get(history.spec.id, ())
    if flights is None:
        return Silence("It does not answer, and what it has in flight cannot be read.", busy=True)
    start_s = None if history.ready_since is not None else history.spec.start_s
    # After a long call the replica needs time to answer the next probe.
    since = health.silent_since if flights else max(health.silent_since, history.busy_at)
    return judge(inputs.now - since, flights, start_s)


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
