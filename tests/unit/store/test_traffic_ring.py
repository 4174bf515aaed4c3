"""The ring of traffic: what it keeps, forgets, and takes twice."""

from __future__ import annotations

from kaon.store.traffic import TrafficRing
from kaon.types.traffic import Sample, Traffic


def sample(at_s: float, deployment: str = "one", revision: int = 1) -> Sample:
    return Sample(workspace="default", deployment=deployment, revision=revision, at_s=at_s, span_s=1, arrivals=1)


def traffic(*samples: Sample, cloud: str = "here") -> Traffic:
    return Traffic(cloud=cloud, samples=samples)


def test_samples_that_come_again_count_once() -> None:
    ring = TrafficRing()
    assert ring.add(traffic(sample(10), sample(11))) == 11
    assert ring.add(traffic(sample(10), sample(11), sample(12))) == 12
    assert [s.at_s for s in ring.since("default", "one", 0)] == [10, 11, 12]


def test_each_cloud_has_its_own_end_and_samples_come_in_order_of_time() -> None:
    ring = TrafficRing()
    ring.add(traffic(sample(20)))
    assert ring.add(traffic(sample(15), cloud="there")) == 15
    assert (ring.until("here"), ring.until("there"), ring.until("nowhere")) == (20, 15, 0)
    assert [s.at_s for s in ring.since("default", "one", 14)] == [15, 20]
    assert [s.at_s for s in ring.since("default", "one", 15)] == [20]


def test_what_is_older_than_the_span_is_forgotten_also_of_deployments_that_are_silent() -> None:
    ring = TrafficRing(span_s=100)
    ring.add(traffic(sample(1, "gone"), sample(50)))
    ring.add(traffic(sample(140)))
    assert ring.deployments() == [("default", "one")]
    assert [s.at_s for s in ring.since("default", "one", 0)] == [50, 140]


def test_a_deployment_that_is_not_known_has_no_samples() -> None:
    ring = TrafficRing()
    assert ring.since("default", "one", 0) == []
    assert ring.deployments() == []
