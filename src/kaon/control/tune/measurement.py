"""The course of one trial: by which names samples tell its sides, what they show minute by minute, and for how long
what is tried may stay in force without another word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kaon.control.tune.inputs import SETTLED_S, TunerInputs
from kaon.laws.traffic import MINUTE_S
from kaon.laws.tune import guard, live, trial
from kaon.laws.tune.ask import TwinResult
from kaon.laws.tune.guard import TICK_S, TrialArm
from kaon.laws.tune.knobs import KnobValues, Reach
from kaon.laws.tune.knobs_of import replica_knobs
from kaon.laws.tune.trial import Trial, TrialWindow
from kaon.types.traffic import Sample, Side
from kaon.types.tuning import TrialStatus

SLACK_S = TICK_S + SETTLED_S
"""A turn that nobody ends is over so much after its time."""


class TrialMeasurement:
    """`unit` is what a call should cost, replica-seconds, and what a miss does: the same for both sides, all along.

    `others` is what the status has in force; `by` is the key that asked for it, empty: the tuner.
    """

    def __init__(self, tried: Trial, others: KnobValues, by: str, unit: tuple[float, float], elastic: bool) -> None:
        self.by, self.unit = by, unit
        self.window: tuple[float, TrialWindow] | None = None
        """A minute of the pool, and when it ended: it waits for what the twin makes of it."""
        self._canary = tried.reach is Reach.REPLICA
        self._elastic = elastic
        canary = {**others, **changed(tried.before, tried.after)}
        self._others, self._trying = (replica_knobs(values).version for values in (others, canary))
        self._ended = 0
        self._canaries = (-1, 0)

    def hear(self, samples: Sequence[Sample]) -> None:
        """Count replicas that try it and ended by themselves."""
        self._ended += sum(side.ended for s in samples for side in s.sides if side.knobs == self._trying)

    def arms(self, tried: Trial, senses: TunerInputs, now: float) -> tuple[TrialArm, TrialArm]:
        """What is tried, over the last minute, and what it is measured by."""
        if self._canary:
            sides = _by_knobs(senses.last(now, tried.began_s))
            return live.arm_of(sides.get(self._trying), self._ended), live.arm_of(sides.get(self._others))
        turn_s = tried.began_s + _block(tried, now) * trial.BLOCK_S
        trying = (
            live.arm(senses.last(now, turn_s), self._ended) if tried.trying(now) else TrialArm(restarts=self._ended)
        )
        return trying, guard.worst(list(senses.controls))

    def sides(self, minute: Sample, senses: TunerInputs) -> tuple[TrialWindow, TrialWindow] | None:
        """A minute of the others, and of the canary; None when either answered nothing."""
        sides = _by_knobs(minute)
        others, trying = (
            None
            if (side := sides.get(name)) is None
            else live.beside(side, senses.objective, *self.unit, elastic=self._elastic)
            for name in (self._others, self._trying)
        )
        return None if others is None or trying is None else (others, trying)

    def pool(self, minute: Sample, senses: TunerInputs) -> TrialWindow | None:
        """A minute of all; None when nobody called."""
        return live.window(minute, senses.objective, *self.unit)

    def foreseen(self, until_s: float, loss: float | None, plain: float | None = None) -> None:
        """What the twin makes of the minute that ended at `until_s`, if it still waits; None: it does not say."""
        if self.window is not None and self.window[0] == until_s:
            at_s, seen = self.window
            self.window = (at_s, replace(seen, twin=loss, plain_twin=plain))

    def status(self, tried: Trial, replicas: int, now: float) -> TrialStatus:
        """The trial as it should be in the status; it changes with the blocks, and not from tick to tick."""
        block = _block(tried, now)
        if self._canary and self._canaries[0] != block:
            self._canaries = (block, max(1, trial.canaries(replicas)))
        return TrialStatus(
            reach=tried.reach,
            after=changed(tried.before, tried.after),
            predicted=tried.predicted / tried.loss if tried.predicted else None,
            since=tried.began_s,
            replicas=self._canaries[1] if self._canary else 0,
            trying=self._canary or tried.trying(now),
            until=tried.began_s + (block + 1) * trial.BLOCK_S + SLACK_S,
            asked_by=self.by,
        )


def first_turn(
    answer: TwinResult, senses: TunerInputs, schedule: Sequence[tuple[float, KnobValues]], force: KnobValues
) -> tuple[TrialWindow, ...]:
    """The minutes of the last half hour in which the pool went by `force`, with what the twin's replay made of them:
    the first turn of a trial by turns."""
    seen = {minute.at_s: minute for minute in senses.minutes}
    found = []
    for end_s, loss, plain in answer.replayed:
        settled = end_s in seen and trial.undisturbed(schedule, force, end_s - MINUTE_S, end_s)
        whole = live.window(seen[end_s], senses.objective, answer.reference_s, senses.price.value) if settled else None
        if whole is not None:
            found.append(replace(whole, twin=loss, plain_twin=plain))
    return tuple(found)


def changed(before: KnobValues, after: KnobValues) -> KnobValues:
    """Those values of `after` that are others than `before`."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def _block(tried: Trial, now: float) -> int:
    """How many blocks are over."""
    return max(0, math.floor((now - tried.began_s) / trial.BLOCK_S))


def _by_knobs(sample: Sample | None) -> dict[str, Side]:
    return {side.knobs: side for side in sample.sides} if sample is not None else {}
