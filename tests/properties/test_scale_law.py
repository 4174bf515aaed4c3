"""What a scaling law must never do, whatever it sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.laws.scaling_peers import Hpa, Knative, Predictive, RayServe, SkyServe
from kaon.types.deployment import Floor
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

LAWS: list[ScalingLaw] = [Scale(Objective(), 8), Scale(Objective(), 1, keep_alive_s=20.0)]
LAWS += [Knative(), RayServe(), Hpa(), SkyServe(), Predictive()]

counts = st.none() | st.integers(0, 100_000)
seconds = st.none() | st.floats(0, 1e6) | st.just(float("nan"))


@st.composite
def batches(draw: st.DrawFn) -> Batches:
    sizes = draw(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 100)), max_size=5))
    return Batches(
        count=len(sizes),
        rows=sum(n for n, _ in sizes),
        seconds=sum(s for _, s in sizes),
        rows_squared=sum(n * n for n, _ in sizes),
        rows_seconds=sum(n * s for n, s in sizes),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    at_s, out = draw(st.floats(0, 2e9)), []
    for _ in range(draw(st.integers(1, 40))):
        span_s = draw(st.sampled_from([1.0, 2.0, 10.0, 300.0]))
        at_s += span_s
        out.append(
            Observation(
                at_s=at_s,
                span_s=span_s,
                arrivals=draw(counts),
                answered=draw(counts),
                missed=draw(counts),
                in_flight=draw(counts),
                queued=draw(counts),
                busy_s=draw(seconds),
                batches=draw(batches()),
                ready=draw(st.integers(0, 500)),
                starting=draw(st.integers(0, 500)),
                cold_start_s=draw(seconds),
            )
        )
    return out


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    least = draw(st.integers(0, 50))
    times = st.times().map("{:%H:%M}".format)
    floors = draw(st.lists(st.builds(Floor, replicas=st.integers(1, 60), start=times, end=times), max_size=2))
    return Bounds(least, least + draw(st.integers(1, 500)), tuple(floors))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@settings(max_examples=30)
@given(histories(), bounds())
def test_the_number_is_within_bounds_and_has_a_reason(
    law: ScalingLaw, history: list[Observation], limits: Bounds
) -> None:
    state = law.begin()
    for observation in history:
        state, decision = law.step(state, limits, observation)
        assert limits.min <= decision.replicas <= limits.max
        assert decision.replicas == limits.clip(decision.replicas, observation.at_s)
        assert decision.reason


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@settings(max_examples=30)
@given(histories(), bounds())
def test_the_same_inputs_give_the_same_decisions(law: ScalingLaw, history: list[Observation], limits: Bounds) -> None:
    first, second = law.begin(), law.begin()
    for observation in history:
        first, one = law.step(first, limits, observation)
        second, other = law.step(second, limits, observation)
        assert one == other
        assert first == second
