"""What no scaling law may do to a deployment, whatever it decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.restraint import RestraintState, restrain
from kaon.laws.scaling import Bounds, ScalingDecision

bounds = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: Bounds(min(pair), max(pair)))
standings = st.builds(
    RestraintState,
    wanted=st.integers(0, 20),
    informed=st.booleans(),
    rolling=st.booleans(),
    proven=st.booleans(),
    held=st.integers(0, 3),
)


@given(st.integers(0, 40), standings, bounds)
def test_a_decision_stays_within_bounds_and_never_lowers_what_it_must_not(
    said: int, standing: RestraintState, bounds: Bounds
) -> None:
    replicas = restrain(ScalingDecision(said, "why"), standing, bounds, 0.0).replicas
    assert bounds.min <= replicas <= bounds.max
    within = min(standing.wanted, bounds.max)
    if not standing.informed or standing.rolling:
        assert replicas >= within, "lowered without figures, or in a rollout"
    if bounds.max:
        assert replicas or not standing.held, "nobody comes for who waits"
        assert replicas or standing.proven, "gone before it ever served"


@given(st.integers(0, 40), standings, bounds)
def test_going_up_is_never_held_back_but_by_the_bounds_and_from_zero(
    said: int, standing: RestraintState, bounds: Bounds
) -> None:
    replicas = restrain(ScalingDecision(said, "why"), standing, bounds, 0.0).replicas
    if standing.wanted or standing.held or not standing.proven:
        assert replicas >= min(said, bounds.max)


@given(st.integers(0, 40), bounds)
def test_at_zero_only_who_waits_wakes_it(said: int, bounds: Bounds) -> None:
    assert restrain(ScalingDecision(said, "why"), RestraintState(wanted=0), bounds, 0.0).replicas == bounds.min
    assert restrain(ScalingDecision(said, "why"), RestraintState(wanted=0, held=1), bounds, 0.0).replicas >= min(
        1, bounds.max
    )


@given(st.integers(0, 20))
def test_an_ordinary_decision_is_left_as_it_is(said: int) -> None:
    decision = ScalingDecision(said, "why")
    assert restrain(decision, RestraintState(wanted=5), Bounds(0, 20), 0.0) == decision
