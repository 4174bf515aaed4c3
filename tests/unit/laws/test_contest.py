"""The contest of all ways to follow the load, told apart from its bookkeeping."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws import contest
from kaon.laws.contest import HOLDS_S, MEMORY_S, STAFFINGS
from kaon.laws.windows import Peaks

SPAN_S, START_S, SLACK_S, PATIENCE_S = 2.0, 20.0, 0.3, 0.5
DEMAND = st.one_of(st.floats(0, 40), st.sampled_from([0.0, 1.0, 3.0]))
STEPS = st.lists(st.tuples(DEMAND, DEMAND, st.floats(0, 80)), min_size=1, max_size=60)


class Candidate:
    """One way to follow the load, by itself and by the book."""

    def __init__(self, demand: int, hold_s: float, staffing: tuple[float, float]) -> None:
        self.demand, self.staffing = demand, staffing
        self.peak, self.low = Peaks.of(1, (hold_s,)), Peaks.of(1, (START_S,))
        self.backlog = self.missed = self.paid = 0.0

    def step(self, at_s: float, demands: tuple[float, float], work: float, weight: float) -> None:
        self.peak = self.peak.add(at_s, [demands[self.demand]])
        [peak] = self.peak.values()
        self.low = self.low.add(at_s, [-peak])
        [low] = self.low.values()
        able = contest.need(-low, *self.staffing)
        self.backlog = max(0.0, self.backlog + work - able * SPAN_S)
        if self.backlog > able * SLACK_S:
            self.missed += work * weight
        self.backlog = min(self.backlog, able * PATIENCE_S)
        self.paid += contest.need(peak, *self.staffing) * (SPAN_S * weight)


@given(STEPS)
def test_each_candidate_fares_as_if_it_were_alone_to_the_last_bit(steps: list[tuple[float, float, float]]) -> None:
    alone = [Candidate(d, hold_s, staffing) for d in (0, 1) for hold_s in HOLDS_S for staffing in STAFFINGS]
    state, weight = contest.begin(2, START_S), 1.0
    for number, (steady, quick, work) in enumerate(steps, start=1):
        at_s, weight = number * SPAN_S, weight * math.exp(SPAN_S / MEMORY_S)
        for candidate in alone:
            candidate.step(at_s, (steady, quick), work, weight)
        state = contest.step(state, at_s, SPAN_S, (steady, quick), work, SLACK_S, PATIENCE_S)
    assert state.backlogs == tuple(candidate.backlog for candidate in alone)
    assert state.missed == tuple(candidate.missed for candidate in alone)
    assert state.paid == tuple(candidate.paid for candidate in alone)


def test_what_is_followed_is_the_cheapest_of_those_that_missed_little_enough() -> None:
    state = contest.begin(2, START_S)
    for number in range(1, 400):
        burst = 9.0 if number % 90 < 3 else 3.0  # shorter than a start, rarer than a minute
        state = contest.step(state, number * SPAN_S, SPAN_S, (burst, burst), burst * SPAN_S, SLACK_S, PATIENCE_S)
        state = contest.choose(state, 0.001)
    limit = 0.001 * state.work
    good = [paid for paid, missed in zip(state.paid, state.missed, strict=True) if missed <= limit]
    assert state.missed[state.chosen] <= limit
    assert state.paid[state.chosen] <= min(good) / 0.98
    assert contest.wanted(state).hold_s > 180  # only whoever holds the peak from burst to burst meets it
