"""What of a deployment's tuning holds, and how it becomes another."""

from __future__ import annotations

import pytest

from kaon.laws.tune import guard, values_in_force
from kaon.types.tuning import Reach, TrialStatus, TunerAction, TunerCommand, TuningStatus

SAFE = {"budget_share": 0.4}
TRIAL = TrialStatus(reach=Reach.POOL, after={"margin": 1.2}, since=100.0, until=400.0)


@pytest.mark.parametrize(
    ("trial", "now_s", "held"),
    [
        (None, 200.0, SAFE),
        (TRIAL, 200.0, {**SAFE, "margin": 1.2}),
        (TRIAL, 400.0, SAFE),
        (TRIAL.model_copy(update={"trying": False}), 200.0, SAFE),
        (TRIAL.model_copy(update={"reach": Reach.REPLICA}), 200.0, SAFE),
    ],
)
def test_the_pool_goes_by_a_turn_only_while_it_is_on_and_not_over(
    trial: TrialStatus | None, now_s: float, held: dict[str, float]
) -> None:
    status = TuningStatus(values=SAFE, trial=trial)
    assert values_in_force.in_force(status, now_s) == held
    assert values_in_force.next_change(status, now_s) == (400.0 if held != SAFE else None)


def test_what_went_back_cannot_be_had_back_and_what_was_before_it_can() -> None:
    first, second, third = ({"budget_share": share} for share in (0.3, 0.4, 0.5))
    status = values_in_force.put(TuningStatus(), first, 0.0, "ann")
    status = values_in_force.promoted(values_in_force.promoted(status, second, 60.0), third, 120.0)
    assert status.probation is not None
    assert (status.values, status.probation.safe, status.probation.until) == (third, first, 120.0 + guard.PROBATION_S)
    back = values_in_force.returned(status, 180.0)
    assert (back.values, back.before, back.probation, back.changed_at) == (first, ({},), None, 180.0)
    assert values_in_force.returned(back, 240.0) == back


def test_a_change_by_a_user_ends_probation() -> None:
    status = values_in_force.promoted(TuningStatus(), SAFE, 0.0)
    assert values_in_force.put(status, {"budget_share": 0.5}, 60.0, "ann").probation is None
    assert values_in_force.undo(status) == (TunerAction.RESTORE, {})
    undo = TunerCommand(id=1, action=TunerAction.RESTORE, values={}, at=60.0, by="ann")
    back = values_in_force.commanded(status, [undo])
    assert (back.values, back.probation, back.changed_by) == ({}, None, "ann")


def commands(*of: tuple[TunerAction, dict[str, float]]) -> list[TunerCommand]:
    made = enumerate(of, start=1)
    return [TunerCommand(id=n, action=action, values=values, at=float(n), by="ann") for n, (action, values) in made]


def test_commands_are_carried_out_once_in_their_order() -> None:
    several = commands((TunerAction.SET, {"max_batch": 8}), (TunerAction.TRY, {"max_batch": 4}), (TunerAction.END, {}))
    after = values_in_force.commanded(TuningStatus(), several)
    assert (after.values, after.asked, after.command, after.changed_at) == ({"max_batch": 8}, None, 3, 1.0)
    assert values_in_force.pending(after, several) == ()
    assert values_in_force.commanded(after, several) == after
    half = values_in_force.commanded(TuningStatus(), several[:2])
    assert (half.asked, half.asked_by) == ({"max_batch": 4}, "ann")
    assert values_in_force.commanded(half, several) == after


def test_a_command_of_a_newer_kaon_changes_nothing_and_counts_as_carried_out() -> None:
    newer = TunerCommand.model_validate({"id": 1, "action": "explore", "at": 0, "by": "ann"})
    assert values_in_force.commanded(TuningStatus(), [newer]) == TuningStatus(command=1)


def test_an_undo_restores_the_values_before_the_last_change_and_forgets_that_change() -> None:
    several = commands((TunerAction.SET, {"max_batch": 8}), (TunerAction.SET, {"max_batch": 4}))
    status = values_in_force.commanded(TuningStatus(), several)
    for values, before in [({"max_batch": 8.0}, ({},)), ({}, ())]:
        undo = values_in_force.undo(status)
        assert undo == (TunerAction.RESTORE, values)
        again = TunerCommand(id=status.command + 1, action=undo[0], values=undo[1], at=9.0, by="ann")
        status = values_in_force.commanded(status, [again])
        assert (status.values, status.before) == (values, before)
    assert values_in_force.undo(status) is None
