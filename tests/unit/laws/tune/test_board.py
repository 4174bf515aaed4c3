"""All knobs of a deployment as people see them."""

from __future__ import annotations

from kaon.laws.tune import board, scaling
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointKind, EndpointSpec, ServiceSpec
from kaon.types.tuning import KnobState, Reach, Recommendation, TrialStatus, TuningStatus

ELASTIC = Scaling(min=1, max=4)
TRIAL = TrialStatus(reach=Reach.REPLICA, after={"max_batch": 16}, since=1, until=9)
BETTER = Recommendation(values={"margin": 0.9}, gain=0.1, least=0.05, at=1)


def service(*endpoints: EndpointSpec) -> ServiceSpec:
    return ServiceSpec(name="x", entry="x:X", endpoints=endpoints)


def endpoint(
    kind: EndpointKind = EndpointKind.CALL, batch: Batch | None = None, at_once: int | None = None
) -> EndpointSpec:
    return EndpointSpec(name="x", method="POST", path="/x", kind=kind, batch=batch, concurrency=at_once)


def knobs(of: ServiceSpec, bounds: Scaling = ELASTIC, status: TuningStatus | None = None) -> dict[str, KnobState]:
    return {knob.name: knob for knob in board.knobs(of, bounds, Objective(), status or TuningStatus())}


def test_each_has_what_is_usual_in_force_tried_and_recommended() -> None:
    status = TuningStatus(values={"max_batch": 8}, trial=TRIAL, recommended=BETTER)
    found = knobs(service(endpoint(batch=Batch(max_size=32))), status=status)
    batch, margin = found["max_batch"], found["margin"]
    assert (batch.usual, batch.value, batch.tried, batch.recommended, batch.whole) == (32, 8, 16, None, True)
    assert (margin.usual, margin.value, margin.tried, margin.recommended, margin.whole) == (1, 1, None, 0.9, False)


def test_a_value_that_a_newer_revision_does_not_take_is_as_near_as_it_may_be() -> None:
    found = knobs(service(endpoint(batch=Batch(max_size=8))), status=TuningStatus(values={"max_batch": 32}))
    assert found["max_batch"].value == 8


def test_there_are_only_those_that_can_matter() -> None:
    batched = service(endpoint(batch=Batch(max_size=32)))
    assert list(knobs(batched, Scaling(min=2, max=2))) == ["max_batch"]
    assert list(knobs(service(endpoint(EndpointKind.STREAM)), Scaling())) == []


def test_knobs_that_only_users_set_have_the_limits_of_the_class() -> None:
    found = knobs(service(endpoint(batch=Batch(max_wait_s=0.05)), endpoint(at_once=4)), Scaling())
    wait, at_once = found["max_wait_s"], found["concurrency"]
    assert (wait.low, wait.high, wait.usual, wait.tuned) == (0, 0.05, 0.05, False)
    assert (at_once.low, at_once.high, at_once.usual, at_once.whole, at_once.tuned) == (1, 4, 4, True, False)


def test_every_knob_has_a_text() -> None:
    assert all(scaling.WHAT[name] == knob.what for name, knob in knobs(service(endpoint(batch=Batch()))).items())
