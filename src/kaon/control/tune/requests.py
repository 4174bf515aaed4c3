"""What somebody asks to be tried: whether it can be, whether it must wait, and what the twin promises of it. Pure."""

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
    """What is known of one. `promise` is the gain that the twin foresees, 0: none; None: it has not said so yet.
    `refused`: it will not be tried."""

    promise: float | None = None
    refused: bool = False


class TrialRefused(NamedTuple):
    """It will not be tried, for a reason."""

    reason: str
    before: KnobValues
    after: KnobValues


class PromiseUnknown(NamedTuple):
    """The twin is to be asked what it promises of these values."""

    after: KnobValues


class TrialBegins(NamedTuple):
    """A trial of the move (before, after), with what is promised of it."""

    reach: Reach
    move: tuple[KnobValues, KnobValues]
    promise: float


def judge(
    wish: TrialRequest,
    asked: KnobValues,
    board: Iterable[KnobState],
    known: TunerState,
    mode: TuningMode,
    now: Conditions,
    at_s: float,
) -> TrialRefused | PromiseUnknown | TrialBegins | None:
    """What comes of values that somebody asked for, at `at_s` and as it is `now`; None: it is no moment to begin.

    Whether the twin is right does not matter: a person takes the risk, and the guard stays.
    """
    knobs = {knob.name: knob for knob in board}
    before = {name: knob.value for name, knob in knobs.items() if name in known.force or name in asked}
    within = {name: min(max(v, knobs[name].low), knobs[name].high) for name, v in asked.items() if name in knobs}
    after = {**before, **within}
    if after == before:
        return TrialRefused("it is in force already", before, after)
    if mode is TuningMode.OFF:
        return TrialRefused("the tuner was switched off", before, after)
    if at_s < known.guard.off_until_s:
        return TrialRefused("nothing is tried for some hours: too much was taken back", before, after)
    if guard.frozen(replace(now, trusted=True)) is not None or not now.calls:
        return None
    promise = wish.promise if after.keys() == known.force.keys() else 0.0  # the twin does not know of other knobs
    if promise is None:
        return PromiseUnknown(after)
    pool = any(knobs[name].reach is Reach.POOL for name in changed(before, after))
    reach = Reach.POOL if pool or trial.canaries(now.ready) == 0 else Reach.REPLICA
    return TrialBegins(reach, (before, after), promise)
