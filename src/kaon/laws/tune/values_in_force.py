"""What is in force, what was before it, and each change of a `TuningStatus`, by hand or by the tuner. Pure.

A change of what is in force ends all that was said of what was in force before: a trial, a wish to try something, a
recommendation. Nothing else has to be taken back.
"""

from __future__ import annotations

from kaon.laws.tune.guard import PROBATION_S
from kaon.types.knobs import KnobValues
from kaon.types.tuning import ProbationStatus, Reach, TrialStatus, TuningStatus

MOST_BEFORE = 10


def in_force(status: TuningStatus, now_s: float) -> KnobValues:
    """What the whole pool goes by now, the scaling law included: the safe values, or those of a turn that is on."""
    turn = _turn(status, now_s)
    return {**status.values, **turn.after} if turn else status.values


def next_change(status: TuningStatus, now_s: float) -> float | None:
    """When `in_force` becomes another by the passing of time alone; None: never."""
    turn = _turn(status, now_s)
    return turn.until if turn else None


def put(was: TuningStatus, values: KnobValues, at_s: float, by: str = "") -> TuningStatus:
    """`values` in force, others as they are; what was in force can be had back. `by` is a key; empty: the tuner."""
    before = (*was.before, was.values)[-MOST_BEFORE:]
    return _changed(was, {**was.values, **values}, before, at_s, by)


def promoted(was: TuningStatus, values: KnobValues, at_s: float) -> TuningStatus:
    """What a trial proved in force, on probation; over all that is on it already one goes back at once."""
    safe = was.values if was.probation is None else was.probation.safe
    probation = ProbationStatus(safe=safe, until=at_s + PROBATION_S)
    return put(was, values, at_s).model_copy(update={"probation": probation})


def returned(was: TuningStatus, at_s: float) -> TuningStatus:
    """What was safe before what is on probation, which cannot be had back; where nothing is, it stays as it is."""
    if was.probation is None:
        return was
    safe = was.probation.safe
    newest = max((i for i, values in enumerate(was.before) if values == safe), default=len(was.before))
    return _changed(was, safe, was.before[:newest], at_s, "")


def undoes(was: TuningStatus) -> bool:
    """Whether there is anything to take back."""
    return bool(was.before) or was.trial is not None or was.asked is not None


def undone(was: TuningStatus, at_s: float, by: str = "") -> TuningStatus:
    """A trial, or the wish for one, ended; where there is none, what was in force before.

    Raises `IndexError` where there is nothing to take back.
    """
    if was.trial is not None or was.asked is not None:
        return was.model_copy(update={"trial": None, "asked": None, "asked_by": ""})
    return _changed(was, was.before[-1], was.before[:-1], at_s, by)


def asked(was: TuningStatus, values: KnobValues, by: str) -> TuningStatus:
    """The wish of the key `by` that `values` be tried."""
    return was.model_copy(update={"asked": values, "asked_by": by})


def _turn(status: TuningStatus, now_s: float) -> TrialStatus | None:
    """A switchback whose turn is on, and not over."""
    trial = status.trial
    on = trial is not None and trial.reach is Reach.POOL and trial.trying and now_s < trial.until
    return trial if on else None


def _changed(
    was: TuningStatus, values: KnobValues, before: tuple[KnobValues, ...], at_s: float, by: str
) -> TuningStatus:
    return was.model_copy(
        update={
            "values": values,
            "before": before,
            "asked": None,
            "asked_by": "",
            "trial": None,
            "recommended": None,
            "probation": None,
            "changed_at": at_s,
            "changed_by": by,
        }
    )
