"""What holds of admission whatever comes: the law and the line, on a clock of the test's own."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws import admit
from kaon.runtime.call import Call
from kaon.runtime.call_queue import PASSED_OVER, CallQueue
from kaon.types.key import Grant, Priority

GRANTS = tuple(
    Grant(hash=f"{priority}{number}", key="", priority=priority) for priority in Priority for number in range(3)
)


@dataclass
class Replica:
    """A lane of `slots` slots whose calls take `seconds` each; its callers leave at their deadline."""

    slots: int
    seconds: float
    timeout_s: float
    now: float = 0.0
    free_at: list[float] = field(default_factory=list)
    empty_at: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    waiting: list[float] = field(default_factory=list)
    """Deadlines, oldest first."""

    def __post_init__(self) -> None:
        self.service = admit.learn(admit.LearnedService(), self.seconds, 100)

    def until(self, now: float) -> None:
        """Let time pass: slots fall free, and those who wait begin, or are late."""
        while self.free_at and self.free_at[0] <= now:
            at = heapq.heappop(self.free_at)
            while self.waiting:
                deadline = self.waiting.pop(0)
                if admit.late(self.service, deadline - at):
                    self.outcomes["late"] += 1
                    continue
                self._begin(at, deadline)
                break
        self.now = now

    def arrive(self, patience_s: float) -> bool:
        """Whether the call came in."""
        if len(self.free_at) < self.slots and not self.waiting:
            self._begin(self.now, self.now + patience_s)
            return True
        if not self.waiting:
            self.empty_at = self.now
        waits = len(self.waiting)
        standing = admit.stands(self.now - self.empty_at, self.timeout_s)
        load = admit.QueueLoad(waits, waits, 1, len(self.free_at), self.slots, self.service, 0.0, standing)
        decision = admit.decide(load, admit.QueueRoom(waits, waits, 1024), patience_s)
        if decision == admit.Admitted():
            self.waiting.append(self.now + patience_s)
            return True
        self.outcomes["refused"] += 1
        return False

    def _begin(self, at: float, deadline: float) -> None:
        heapq.heappush(self.free_at, at + self.seconds)
        self.outcomes["good" if at + self.seconds <= deadline + 1e-9 else "wasted"] += 1


worlds = st.builds(
    Replica,
    slots=st.integers(1, 32),
    seconds=st.floats(0.001, 5.0),
    timeout_s=st.floats(1.0, 120.0),
)


@given(worlds, st.lists(st.tuples(st.floats(0, 2.0), st.floats(0.01, 60.0)), max_size=60))
def test_nobody_is_refused_while_a_slot_is_free(world: Replica, arrivals: list[tuple[float, float]]) -> None:
    for gap_s, patience_s in arrivals:
        world.until(world.now + gap_s)
        free = len(world.free_at) < world.slots
        assert world.arrive(patience_s) or not free


@given(worlds, st.lists(st.floats(0, 0.5), max_size=200), st.floats(1.0, 50.0))
def test_what_comes_in_is_answered_in_time_when_the_estimate_holds(
    world: Replica, gaps: list[float], rounds: float
) -> None:
    for gap_s in gaps:
        world.until(world.now + gap_s)
        world.arrive(world.seconds * rounds)
    world.until(world.now + 1e4)
    assert world.outcomes["wasted"] == 0
    assert world.outcomes["late"] == 0


@settings(max_examples=20)
@given(
    st.integers(1, 16),
    st.floats(0.01, 1.0),
    st.floats(2.0, 5.0),
    st.floats(2.0, 8.0),
    st.integers(0, 2**16),
)
def test_a_storm_of_retries_costs_no_more_than_a_fifth_of_the_goodput(
    slots: int, seconds: float, overload: float, rounds: float, seed: int
) -> None:
    """Callers wait `rounds` times the service time, and refused ones repeat their call after the Retry-After."""
    world, chance = Replica(slots, seconds, 60.0), random.Random(seed)
    capacity_per_s, turned = slots / seconds, admit.RefusalPace()
    calls = 2000
    events = [(number / (overload * capacity_per_s), number) for number in range(calls)]
    end = events[-1][0]
    heapq.heapify(events)
    number = calls
    while events and events[0][0] <= end:
        at, _ = heapq.heappop(events)
        world.until(at)
        if not world.arrive(seconds * rounds):
            turned = turned.more(at)
            waits = len(world.waiting)
            load = admit.QueueLoad(waits, waits, 1, len(world.free_at), slots, world.service)
            heapq.heappush(events, (at + admit.retry_after_s(load, turned, chance.random()), number))
            number += 1
    assert world.outcomes["good"] >= 0.8 * capacity_per_s * end - 2 * slots


@st.composite
def comings_and_goings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    step = st.tuples(st.sampled_from(["join", "take", "leave"]), st.integers(0, 8), st.integers(1, 5))
    return draw(st.lists(step, max_size=150))


@dataclass
class Piece:
    """A part of a call, as batches cut them."""

    call: Call
    rows: int


class Lane:
    """What a call needs of its lane."""

    def __init__(self) -> None:
        self.line: CallQueue[Piece] = CallQueue()

    def call_ended(self, call: Call) -> None:
        if call.turn is not None:
            self.line.leave(call)

    def caller_left(self, call: Call) -> None: ...


@given(comings_and_goings())
def test_in_flight_counts_never_go_negative_after_churn_and_are_zero_after_quiet(
    steps: list[tuple[str, int, int]],
) -> None:
    lane = Lane()
    line = lane.line
    here: list[Call] = []
    begun: list[Call] = []
    for step, number, pieces in steps:
        if step == "join":
            call = Call(cast(Any, lane), GRANTS[number], "", None)
            line.join(call, [Piece(call, 2) for _ in range(pieces)])
            here.append(call)
        elif step == "take" and (piece := line.take()) is not None:
            line.began(piece.call)
            begun.append(piece.call)
            here = [call for call in here if call is not piece.call]
        elif step == "leave" and (there := here + begun):
            gone = there[number % len(there)]
            gone.cancel() if pieces % 2 else gone.end(None)
            here, begun = ([call for call in calls if call is not gone] for calls in (here, begun))
        assert line.calls == len(here)
        assert all(line.own(call) >= 0 and min(line.ahead(call)) >= 0 for call in here)
    for call in here + begun:
        call.end(None)
    assert line.calls == 0
    assert line.take() is None
    for grant in GRANTS:
        new = Call(cast(Any, lane), grant, "", None)
        assert (line.own(new), *line.ahead(new)) == (0, 0, 0)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=300))
def test_whatever_waits_nothing_is_passed_over_for_ever(joined: list[int]) -> None:
    lane = Lane()
    for number in joined:
        call = Call(cast(Any, lane), GRANTS[number], "", None)
        lane.line.join(call, [Piece(call, 1)])
    levels = {number // 3 for number in joined}
    taken: list[Priority] = []
    while (piece := lane.line.take()) is not None:
        lane.line.began(piece.call)
        taken.append(piece.call.grant.priority)
    assert len(taken) == len(joined)
    for level in levels:
        priority = tuple(Priority)[level]
        first = taken.index(priority)
        assert first <= 2 * (PASSED_OVER + 1)
