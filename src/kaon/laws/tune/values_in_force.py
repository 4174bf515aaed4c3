"""The values in force, earlier ones, and each change of a `TuningStatus`, by a user's command or by the tuner. Pure.

A change of the values in force ends what refers to the earlier ones: a trial, a request for one, a recommendation.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from kaon.laws.tune.guard import PROBATION_S
from kaon.types.knobs import KnobValues
from kaon.types.tuning import ProbationStatus, Reach, TrialStatus, TunerAction, TunerCommand, TuningStatus

MOST_BEFORE = 10


def in_force(status: TuningStatus, now_s: float) -> KnobValues:
    """The values of the whole pool and of the scaling law now: the safe ones, or those of the trial's current turn."""
    turn = _turn(status, now_s)
    return {**status.values, **turn.after} if turn else status.values


def next_change(status: TuningStatus, now_s: float) -> float | None:
    """When `in_force` changes by the passing of time alone; None: never."""
    turn = _turn(status, now_s)
    return turn.until if turn else None


def pending(status: TuningStatus, commands: Iterable[TunerCommand]) -> tuple[TunerCommand, ...]:
    """The commands that are not carried out."""
    return tuple(command for command in commands if command.id > status.command)


def commanded(status: TuningStatus, commands: Iterable[TunerCommand]) -> TuningStatus:
    """The status after all pending commands."""
    return reduce(_carried_out, pending(status, commands), status)


def undo(status: TuningStatus) -> tuple[TunerAction, KnobValues] | None:
    """What a user's undo means: it ends a trial or the request for one, or else restores values; None: neither."""
    if status.trial is not None or status.asked is not None:
        return TunerAction.END, {}
    return (TunerAction.RESTORE, status.before[-1]) if status.before else None


def put(status: TuningStatus, values: KnobValues, at_s: float, by: str = "") -> TuningStatus:
    """`values` in force, others as they are. `by` is the name of a key; empty: the tuner."""
    before = (*status.before, status.values)[-MOST_BEFORE:]
    return _changed(status, {**status.values, **values}, before, at_s, by)


def promoted(status: TuningStatus, values: KnobValues, at_s: float) -> TuningStatus:
    """The values of a trial in force, on probation. All values on probation are rolled back together."""
    safe = status.values if status.probation is None else status.probation.safe
    probation = ProbationStatus(safe=safe, until=at_s + PROBATION_S)
    return put(status, values, at_s).model_copy(update={"probation": probation})


def returned(status: TuningStatus, at_s: float) -> TuningStatus:
    """The values before those on probation in force again; unchanged where none are."""
    return status if status.probation is None else _restored(status, status.probation.safe, at_s, "")


def _carried_out(status: TuningStatus, command: TunerCommand) -> TuningStatus:
    match command.action:
        case TunerAction.SET:
            status = put(status, command.values, command.at, command.by)
        case TunerAction.RESTORE:
            status = _restored(status, command.values, command.at, command.by)
        case TunerAction.TRY:
            status = status.model_copy(update={"asked": command.values, "asked_by": command.by})
        case TunerAction.END:
            status = status.model_copy(update={"trial": None, "asked": None, "asked_by": ""})
    return status.model_copy(update={"command": command.id})


def _restored(status: TuningStatus, values: KnobValues, at_s: float, by: str) -> TuningStatus:
    """Earlier values in force again; later ones are forgotten."""
    newest = max((i for i, earlier in enumerate(status.before) if earlier == values), default=len(status.before))
    return _changed(status, values, status.before[:newest], at_s, by)


def _turn(status: TuningStatus, now_s: float) -> TrialStatus | None:
    """The switchback of which the tried values' turn is now."""
    trial = status.trial
    on = trial is not None and trial.reach is Reach.POOL and trial.trying and now_s < trial.until
    return trial if on else None


def _changed(
    status: TuningStatus, values: KnobValues, before: tuple[KnobValues, ...], at_s: float, by: str
) -> TuningStatus:
    return status.model_copy(
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
