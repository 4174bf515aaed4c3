"""The measurement of one trial: which samples belong to which side, their windows by the minute, and its end as the
status states it.
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
"""A turn that no status ends is over so long after its time."""


class TrialMeasurement:
    """The measurement of the trial `tried`.

    `unit` is the reference cost of a call, replica-seconds, and the price of a miss: constant, and the same for both
    sides. `others` are the status's values in force; `by` is the key that requested the trial, empty: the tuner.
    """

    def __init__(self, tried: Trial, others: KnobValues, by: str, unit: tuple[float, float], elastic: bool) -> None:
        self.by, self.unit = by, unit
        self.window: tuple[float, TrialWindow] | None = None
        """A minute of the pool and its end; it waits for the twin's prediction."""
        self._canary = tried.reach is Reach.REPLICA
        self._elastic = elastic
        canary = {**others, **changed(tried.before, tried.after)}
        self._others, self._trying = (replica_knobs(values).version for values in (others, canary))
        self._ended = 0
        self._canaries = (-1, 0)

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Count replicas in the trial that ended by themselves."""
        self._ended += sum(side.ended for s in samples for side in s.sides if side.knobs == self._trying)

    def arms(self, tried: Trial, inputs: TunerInputs, now: float) -> tuple[TrialArm, TrialArm]:
        """The tried side over the last minute, and its control."""
        if self._canary:
            sides = _by_knobs(inputs.last(now, tried.began_s))
            return live.arm_of(sides.get(self._trying), self._ended), live.arm_of(sides.get(self._others))
        turn_s = tried.began_s + _block(tried, now) * trial.BLOCK_S
        trying = (
            live.arm(inputs.last(now, turn_s), self._ended) if tried.trying(now) else TrialArm(restarts=self._ended)
        )
        return trying, guard.worst(list(inputs.controls))

    def sides(self, minute: Sample, inputs: TunerInputs) -> tuple[TrialWindow, TrialWindow] | None:
        """A minute of the others and of the canary; None when either answered no calls."""
        sides = _by_knobs(minute)
        others, trying = (
            None
            if (side := sides.get(name)) is None
            else live.beside(side, inputs.objective, *self.unit, elastic=self._elastic)
            for name in (self._others, self._trying)
        )
        return None if others is None or trying is None else (others, trying)

    def pool(self, minute: Sample, inputs: TunerInputs) -> TrialWindow | None:
        """A minute of the whole pool; None: there were no calls."""
        return live.window(minute, inputs.objective, *self.unit)

    def add_prediction(self, until_s: float, loss: float | None, plain: float | None = None) -> None:
        """Add the twin's losses to the window that ended at `until_s`, if it still waits; None: there are none."""
        if self.window is not None and self.window[0] == until_s:
            at_s, window = self.window
            self.window = (at_s, replace(window, twin=loss, plain_twin=plain))

    def status(self, tried: Trial, replicas: int, now: float) -> TrialStatus:
        """The trial for the status; it changes with each block, not with each tick."""
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
    result: TwinResult, inputs: TunerInputs, schedule: Sequence[tuple[float, KnobValues]], force: KnobValues
) -> tuple[TrialWindow, ...]:
    """The minutes of the last half hour in which the pool had the values `force`, with the losses of the twin's replay:
    the first turn of a switchback."""
    minutes = {minute.at_s: minute for minute in inputs.minutes}
    windows = []
    for end_s, loss, plain in result.replayed:
        minute = minutes.get(end_s)
        if minute is None or not trial.undisturbed(schedule, force, end_s - MINUTE_S, end_s):
            continue
        window = live.window(minute, inputs.objective, result.reference_s, inputs.price.value)
        if window is not None:
            windows.append(replace(window, twin=loss, plain_twin=plain))
    return tuple(windows)


def changed(before: KnobValues, after: KnobValues) -> KnobValues:
    """The values of `after` that differ from `before`."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def _block(tried: Trial, now: float) -> int:
    """The number of completed blocks."""
    return max(0, math.floor((now - tried.began_s) / trial.BLOCK_S))


def _by_knobs(sample: Sample | None) -> dict[str, Side]:
    return {side.knobs: side for side in sample.sides} if sample is not None else {}
