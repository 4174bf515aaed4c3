"""From what is in force and what is being tried to replicas' knobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.tune.knobs_of import planned, replica_knobs
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.tuning import Reach, TrialStatus, TuningStatus

NOW = 1000.0
AS_THE_CLASS_SAYS = PlannedKnobs().named()


def trial(reach: Reach = Reach.REPLICA, after: dict[str, float] | None = None, **more: Any) -> TrialStatus:
    given = {"since": NOW - 10, "until": NOW + 30} | more
    return TrialStatus(reach=reach, after=after or {"max_batch": 4.0}, **given)


def of(trying: TrialStatus | None, replicas: int = 3, **values: float) -> PlannedKnobs:
    return planned(TuningStatus(values=values, trial=trying), [f"r{n}" for n in range(replicas)], NOW)


def test_without_tuned_values_replicas_are_as_in_their_class() -> None:
    assert of(None) == AS_THE_CLASS_SAYS
    assert of(None, margin=1.2, budget_share=0.5) == AS_THE_CLASS_SAYS, "those are the pool's"


def test_what_is_in_force_holds_for_all() -> None:
    assert of(None, max_batch=16.0, margin=1.2) == PlannedKnobs(force=Knobs(max_batch=16)).named()


def test_one_in_ten_replicas_tries_at_least_one_and_the_first_of_them() -> None:
    for replicas, tries in ((2, 1), (9, 1), (19, 1), (20, 2), (57, 5)):
        found = of(trial(), replicas, max_batch=8)
        canaries = tuple(f"r{n}" for n in range(tries))
        wanted = PlannedKnobs(force=Knobs(max_batch=8), trial=Knobs(max_batch=4), replicas=canaries)
        assert found == wanted.named()


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_replica_that_has_no_other_beside_it_tries_nothing(replicas: int) -> None:
    assert of(trial(), replicas) == AS_THE_CLASS_SAYS
    assert of(trial(), replicas, max_batch=8) == PlannedKnobs(force=Knobs(max_batch=8)).named()


def test_a_trial_of_the_pool_reaches_all_replicas_in_its_turns_only() -> None:
    after = {"max_batch": 4.0, "margin": 1.3}
    found = of(trial(Reach.POOL, after, trying=True), max_batch=8, margin=1.0)
    assert found == PlannedKnobs(force=Knobs(max_batch=8), trial=Knobs(max_batch=4)).named()
    assert of(trial(Reach.POOL, after, trying=False), max_batch=8) == PlannedKnobs(force=Knobs(max_batch=8)).named()


def test_a_canary_has_the_tried_values_all_the_time_without_turns() -> None:
    found = of(trial(trying=False))
    assert found.replicas == ("r0",)


def test_a_trial_of_the_pools_knobs_alone_is_none_of_the_replicas() -> None:
    assert of(trial(Reach.POOL, {"margin": 1.3})) == AS_THE_CLASS_SAYS


def test_a_trial_whose_time_is_over_is_none() -> None:
    assert of(trial(until=NOW)) == AS_THE_CLASS_SAYS


def test_knobs_that_are_not_tried_stay_as_they_are_in_force() -> None:
    found = of(trial(after={"max_batch": 4.0}), max_batch=8, concurrency=2)
    assert found.trial == Knobs(max_batch=4, concurrency=2).named()


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.sampled_from(["max_batch", "max_wait_s", "concurrency", "margin"]), NUMBERS))
def test_whatever_the_numbers_are_there_are_knobs_for_them(values: dict[str, float]) -> None:
    knobs = replica_knobs(values)
    assert (knobs.max_batch is None) == ("max_batch" not in values)
    assert (knobs.max_wait_s is None) == ("max_wait_s" not in values)
