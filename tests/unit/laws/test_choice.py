"""From a spec to the law that decides."""

from __future__ import annotations

from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.types.deployment import Floor, Scaling
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec

AIM = Objective(latency_s=0.2)


def service(**endpoint: object) -> ServiceSpec:
    return ServiceSpec(name="x", entry="x:X", endpoints=(EndpointSpec(name="e", method="POST", path="/e", **endpoint),))


def test_bounds_and_keep_alive_are_those_of_the_spec() -> None:
    floor = Floor(replicas=3, start="09:00", end="18:00")
    spec = Scaling(min=0, max=7, floors=(floor,), keep_alive_s=90)
    bounds = choice.bounds(spec)
    assert (bounds.min, bounds.max) == (0, 7)
    assert [bounds.clip(0, 3600.0 * hour) for hour in (8, 9, 17, 18)] == [0, 3, 3, 0]
    assert choice.law(spec, AIM, 1, at_once=16) == Scale(AIM, 1, keep_alive_s=90, at_once=16)


def test_a_batch_is_what_a_handler_takes_and_concurrency_what_a_replica_takes_at_once() -> None:
    assert (choice.max_batch(service(batch=Batch(max_size=8))), choice.at_once(service(batch=Batch(max_size=8)))) == (
        8,
        8,
    )
    assert (choice.max_batch(service(concurrency=4)), choice.at_once(service(concurrency=4))) == (1, 4)
    assert (choice.max_batch(service()), choice.at_once(service())) == (1, 16)
