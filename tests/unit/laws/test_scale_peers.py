"""The peers' laws, against what their sources say."""

from __future__ import annotations

import pytest

from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.laws.scaling_peers import Hpa, Knative, Predictive, RayServe, SkyServe
from kaon.types.observation import Observation

BOUNDS = Bounds(0, 1000)
LAWS = [Knative(), RayServe(), Hpa(), SkyServe(), Predictive()]


def feed(
    law: ScalingLaw, figures: list[int | None], ready: int | None = None, state: object = None, at_s: float = 0.0
) -> tuple[object, list[int]]:
    """One observation per 2 s, calls in flight and arrivals alike; `ready` None: the last decision is in force."""
    state = law.begin() if state is None else state
    decisions: list[int] = []
    for i, figure in enumerate(figures):
        now = ready if ready is not None else (decisions[-1] if decisions else 1)
        observation = Observation(at_s=at_s + 2.0 * (i + 1), span_s=2.0, arrivals=figure, in_flight=figure, ready=now)
        state, decision = law.step(state, BOUNDS, observation)
        decisions.append(decision.replicas)
    return state, decisions


def test_knative_divides_by_seven_tenths_of_its_target() -> None:
    _, decisions = feed(Knative(target=10.0), [70] * 60, ready=9)
    assert decisions[-1] == 10


def test_knative_panics_at_twice_what_is_ready_and_does_not_go_down_for_a_minute() -> None:
    state, _ = feed(Knative(target=10.0), [14] * 40, ready=2)
    state, up = feed(Knative(target=10.0), [140] * 3, ready=2, state=state, at_s=80)
    _, after = feed(Knative(target=10.0), [0] * 60, state=state, ready=20, at_s=86)
    assert up[-1] == 20
    assert set(after[:28]) == {20}
    assert after[-1] < 20


def test_knative_goes_down_by_half_at_most() -> None:
    _, decisions = feed(Knative(target=10.0), [1] * 60, ready=20)
    assert decisions[-1] == 10


def test_knative_grants_the_last_replica_its_grace() -> None:
    _, decisions = feed(Knative(), [0] * 40, ready=1)
    assert decisions[5] == 1
    assert decisions[-1] == 0


def test_ray_serve_waits_thirty_seconds_up_and_ten_minutes_down() -> None:
    state, up = feed(RayServe(), [20] * 40)
    assert up.index(10) * 2.0 == pytest.approx(30, abs=4)
    _, down = feed(RayServe(), [4] * 330, state=state, at_s=80)
    assert down[280] == 10
    assert down[-1] == 2


def test_ray_serve_leaves_zero_at_once() -> None:
    law = RayServe()
    state, _ = feed(law, [0] * 330)
    _, up = feed(law, [20], ready=0, state=state, at_s=660)
    assert up == [1]


def test_hpa_does_nothing_within_its_tolerance() -> None:
    _, decisions = feed(Hpa(target=5.0), [54] * 30, ready=10)
    assert set(decisions) == {10}


def test_hpa_at_most_doubles_in_fifteen_seconds_or_adds_four() -> None:
    _, decisions = feed(Hpa(target=5.0), [500] * 9)
    assert decisions[0] == 5
    assert decisions[-1] == 10


def test_hpa_goes_down_to_the_highest_of_five_minutes() -> None:
    state, _ = feed(Hpa(target=5.0), [50] * 30)
    _, down = feed(Hpa(target=5.0), [10] * 170, state=state, at_s=60)
    assert down[130] == 10
    assert down[-1] == 2


def test_sky_serve_counts_calls_and_is_patient() -> None:
    _, decisions = feed(SkyServe(target=10.0), [100] * 200)
    first = decisions.index(5)
    assert 280 <= 2.0 * first <= 340
    assert decisions[-1] == 5


def test_the_predictive_law_sees_a_season_come_again() -> None:
    law = Predictive(Knative(target=10.0), season_s=400.0, slot_s=10.0, start_s=40.0, window_s=10.0)
    season = [20] * 100 + [200] * 100
    _, ahead = feed(law, season * 3)
    _, plain = feed(Knative(target=10.0), season * 3)
    ramp = slice(2 * len(season) + 85, 2 * len(season) + 99)
    assert max(ahead[ramp]) > max(plain[ramp])


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_without_figures_a_peer_keeps_what_it_has(law: ScalingLaw) -> None:
    state, before = feed(law, [40] * 200)
    _, after = feed(law, [None] * 50, ready=before[-1], state=state, at_s=400)
    assert set(after) == {before[-1]}
