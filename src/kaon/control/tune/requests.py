"""Requested trials: whether one can begin, must wait, or is refused, and the gain that the twin predicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from kaon.control.tune.measurement import changed
from kaon.laws.tune import guard, trial
from kaon.laws.tune.guard import Conditions
from kaon.laws.tune.knobs import KnobValues, Reach
from kaon.laws.tune.tuner import TunerState
from kaon.types.tuning import KnobState, TuningMode


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """The state of a request. `promise` is the gain predicted by the twin, 0: none; None: not predicted yet.
    `refused`: it is not tried."""

    promise: float | None = None
    refused: bool = False


class TrialRefused(NamedTuple):
    """The request is refused."""

    reason: str
    before: KnobValues
    after: KnobValues


class PromiseUnknown(NamedTuple):
    """The twin must predict the gain of these values first."""

    after: KnobValues


class TrialBegins(NamedTuple):
    """A trial of the move (before, after), with its predicted gain."""

    reach: Reach
    move: tuple[KnobValues, KnobValues]
    promise: float


def judge(
    request: TrialRequest,
    asked: KnobValues,
    board: Iterable[KnobState],
    state: TunerState,
    mode: TuningMode,
    conditions: Conditions,
    at_s: float,
) -> TrialRefused | PromiseUnknown | TrialBegins | None:
    """The decision on the requested values `asked`; None: they wait for better conditions.

    A replay that is not accurate is no obstacle: the user takes the risk, and the guard still applies.
    """
    knobs = {knob.name: knob for knob in board}
    before = {name: knob.value for name, knob in knobs.items() if name in state.force or name in asked}
    within = {name: min(max(v, knobs[name].low), knobs[name].high) for name, v in asked.items() if name in knobs}
    after = {**before, **within}
    if after == before:
        return TrialRefused("these values are in force already", before, after)
    if mode is TuningMode.OFF:
        return TrialRefused("the tuner was switched off", before, after)
    if at_s < state.guard.off_until_s:
        return TrialRefused("trials are paused for some hours, after too many rollbacks", before, after)
    if guard.frozen(replace(conditions, trusted=True)) is not None or not conditions.calls:
        return None
    promise = request.promise if after.keys() == state.force.keys() else 0.0  # the twin has no other knobs
    if promise is None:
        return PromiseUnknown(after)
    pool = any(knobs[name].reach is Reach.POOL for name in changed(before, after))
    reach = Reach.POOL if pool or trial.canaries(conditions.ready) == 0 else Reach.REPLICA
    return TrialBegins(reach, (before, after), promise)
