"""What of a deployment's tuning holds, and how it becomes another."""

from __future__ import annotations

import pytest

from kaon.laws.tune import standing
from kaon.types.tuning import Reach, TrialStatus, TuningStatus

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
    assert standing.in_force(status, now_s) == held
    assert standing.next_change(status, now_s) == (400.0 if held != SAFE else None)
