"""The ring of traffic: what it keeps, forgets, and takes twice."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kaon.store.traffic import TrafficRing
from kaon.types.traffic import Sample, Traffic


def sample(at_s: float, deployment: str = "one", revision: int = 1) -> Sample:
    return Sample(workspace="default", deployment=deployment, revision=revision, at_s=at_s, span_s=1, arrivals=1)


def traffic(*samples: Sample, cloud: str = "here", after_s: float = 0) -> Traffic:
    return Traffic(cloud=cloud, samples=samples, after_s=after_s)


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


def test_an_unknown_deployment_has_no_samples() -> None:
    ring = TrafficRing()
    assert ring.since("default", "one", 0) == []
    assert ring.deployments() == []


def test_what_comes_after_something_that_is_missing_here_waits_for_it() -> None:
    ring = TrafficRing()
    assert ring.add(traffic(sample(12), after_s=11)) == 0
    assert ring.since("default", "one", 0) == []
    assert ring.add(traffic(sample(10), sample(11), sample(12))) == 12
    assert ring.add(traffic(sample(13), after_s=12)) == 13


def test_a_sum_that_has_seconds_which_are_here_already_is_left_out() -> None:
    ring = TrafficRing()
    ring.add(traffic(sample(13)))
    whole = sample(20).model_copy(update={"span_s": 10.0})
    assert ring.add(traffic(whole, sample(21))) == 21
    assert [s.at_s for s in ring.since("default", "one", 0)] == [13, 21]


def test_old_seconds_become_sums_and_nothing_is_lost_by_that() -> None:
    ring = TrafficRing()
    for at in range(1, 601):
        ring.add(traffic(sample(at), sample(at, revision=2), sample(at, "two")))
    found = ring.since("default", "one", 0)
    assert sum(s.arrivals or 0 for s in found) == 1200
    assert sum(s.span_s for s in found) == 1200
    assert {s.span_s for s in found if s.at_s > 480} == {1}
    assert {s.span_s for s in found if 10 < s.at_s < 480} == {10}
    assert len(found) == 2 * (48 + 121)
    assert ring.deployments() == [("default", "one"), ("default", "two")]
    assert len(ring.since("default", "one", 100)) == 2 * (38 + 121)


def test_samples_come_back_as_they_were() -> None:
    ring = TrafficRing()
    full = sample(10).model_copy(
        update={"codes": {"2xx": 1}, "latency": {3: 1}, "in_flight": 0, "queue_s": 0.1 + 0.2, "cloud": "here"}
    )
    ring.add(traffic(full))
    assert ring.since("default", "one", 0) == [full]


def test_a_cloud_that_sends_too_much_keeps_its_newest() -> None:
    ring = TrafficRing(most_bytes=2_000)
    for at in range(1, 101):
        ring.add(traffic(sample(at)))
    found = ring.since("default", "one", 0)
    assert found[-1].at_s == 100
    assert 5 < len(found) < 40


def test_samples_of_a_time_to_come_are_not_taken_and_a_clock_that_went_back_forgets_them() -> None:
    ring = TrafficRing()
    assert ring.add(traffic(sample(100), sample(4000)), now_s=100) == 100
    assert ring.add(traffic(sample(1000), after_s=100), now_s=1000) == 1000
    assert ring.add(traffic(sample(101), after_s=100), now_s=101) == 101
    assert [s.at_s for s in ring.since("default", "one", 0)] == [100, 101]


def test_moments_come_back_oldest_first() -> None:
    ring = TrafficRing()
    for at in range(1, 301):
        ring.add(traffic(sample(at), sample(at, "two")))
    assert [m.at_s for m in ring.moments("here", 298)] == [299, 300]
    assert [m.at_s for m in ring.moments("here", 0)][:3] == [9, 19, 29]
    assert ring.moments("nowhere", 0) == []


def test_news_are_returned_once_in_order_of_arrival_also_late_ones() -> None:
    ring = TrafficRing()
    ring.add(traffic(sample(20)))
    ring.add(traffic(sample(15), cloud="there"))
    told, count = ring.news("default", "one", 0)
    assert [s.at_s for s in told] == [20, 15]
    assert ring.news("default", "one", count) == ([], count)
    ring.add(traffic(sample(21), sample(21, "two")))
    told, count = ring.news("default", "one", count)
    assert [s.at_s for s in told] == [21]
    for at in range(22, 132):
        ring.add(traffic(sample(at)))
    told, _ = ring.news("default", "one", count)
    assert sum(s.arrivals or 0 for s in told) == 110
    assert ring.news("default", "nobody", 0)[0] == []


def test_a_bucket_that_no_histogram_has_is_refused() -> None:
    with pytest.raises(ValidationError):
        Sample(workspace="default", deployment="one", revision=1, at_s=1, span_s=1, latency={69: 1})
