"""From running totals to samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replicas import replica_status

from kaon.agent.traffic.edge_traffic import key_of
from kaon.agent.traffic.reading import LONGEST_SPAN_S, TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory, step
from kaon.agent.traffic.work import work
from kaon.edge.counts import ClusterCounts, EdgeCounts
from kaon.types.figures import ReplicaFigures
from kaon.types.observation import Batches
from kaon.types.replica import Phase
from kaon.types.traffic import ColdStart, Sample

KEY = ("default", "shop", 1)
CLUSTER = "default~shop~1"


def edge(run: int = 100, **counts: ClusterCounts) -> EdgeCounts:
    return EdgeCounts(run, {name.replace("__", "~"): c for name, c in counts.items()})


def cluster(**fields: object) -> EdgeCounts:
    return EdgeCounts(100, {CLUSTER: ClusterCounts(**fields)})  # type: ignore[arg-type]


def figures(at_s: float, began_at: float = 1.0, **fields: object) -> ReplicaFigures:
    return ReplicaFigures.model_validate({"began_at": began_at, "at_s": at_s} | fields)


def look(now: float, edge_: EdgeCounts | None = None, **fields: object) -> TrafficReading:
    given = {"served": frozenset({KEY})} | fields
    return TrafficReading(1000.0 + now, now, edge() if edge_ is None else edge_, **given)  # type: ignore[arg-type]


def steps(*looks: TrafficReading) -> list[list[Sample]]:
    memory: TrafficHistory | None = None
    reported = []
    for one in looks:
        memory, samples = step("here", memory, one)
        reported.append(samples)
    return reported


def last(*looks: TrafficReading) -> Sample:
    (sample,) = steps(*looks)[-1]
    return sample


def test_the_first_look_tells_nothing_whatever_was_counted_before_it() -> None:
    assert steps(look(1, cluster(attempts=1000))) == [[]]


def test_a_revision_that_nobody_called_has_zeros_not_gaps() -> None:
    sample = last(look(1), look(2))
    assert (sample.at_s, sample.span_s, sample.cloud) == (1002, 1, "here")
    assert (sample.arrivals, sample.codes, sample.latency, sample.in_flight) == (0, {}, {}, 0)
    assert (sample.queued, sample.queue_s, sample.began, sample.busy_s) == (0, 0, 0, 0)


def test_a_call_that_was_sent_again_arrived_once() -> None:
    before = cluster(attempts=10, retries=2, answers={"2xx": 8})
    after = cluster(attempts=17, retries=5, answers={"2xx": 12}, latency=(3, 1))
    sample = last(look(1, before), look(2, after))
    assert (sample.arrivals, sample.codes, sample.latency) == (4, {"2xx": 4}, {0: 3, 1: 1})


def test_a_retry_that_is_counted_before_its_attempt_is_no_call_less() -> None:
    looks = [
        look(1, cluster(attempts=5)),
        look(2, cluster(attempts=5, retries=1)),
        look(3, cluster(attempts=7, retries=1)),
    ]
    assert [s.arrivals for samples in steps(*looks)[1:] for s in samples] == [0, 1]


def test_answers_are_told_by_who_gave_them() -> None:
    before = cluster(answers={"2xx": 1, "4xx": 1, "5xx": 1})
    after = cluster(
        answers={"1xx": 1, "2xx": 3, "3xx": 1, "4xx": 4, "5xx": 11},
        busy=2,
        unavailable=6,
        refusals_retried=4,
        timeouts=1,
    )
    ready = (replica_status(),)
    sample = last(
        look(1, before, replicas=ready, figures={"a": figures(1)}),
        look(2, after, replicas=ready, figures={"a": figures(2, codes={"503": 9})}),
    )
    # Of nine 503 of replicas four were sent again; one of the six that callers got was the edge's own.
    assert sample.codes == {"2xx": 3, "3xx": 1, "4xx": 1, "5xx": 3, "shed": 7, "none": 2}


def test_503_of_an_edge_without_replicas_are_no_answers() -> None:
    sample = last(look(1), look(2, cluster(attempts=3, answers={"5xx": 3}, unavailable=3)))
    assert (sample.arrivals, sample.codes) == (3, {"none": 3})


def test_refusals_that_the_edge_tells_of_a_moment_later_are_still_refusals() -> None:
    ready = (replica_status(),)
    looks = [
        look(1, cluster(answers={"5xx": 0}), replicas=ready, figures={"a": figures(1)}),
        look(2, cluster(answers={"5xx": 0}), replicas=ready, figures={"a": figures(2, codes={"503": 2})}),
        look(
            3, cluster(answers={"5xx": 2}, unavailable=2), replicas=ready, figures={"a": figures(3, codes={"503": 2})}
        ),
        look(
            4, cluster(answers={"5xx": 3}, unavailable=3), replicas=ready, figures={"a": figures(4, codes={"503": 2})}
        ),
    ]
    assert [s.codes for samples in steps(*looks)[1:] for s in samples] == [{}, {"shed": 2}, {"none": 1}]


def test_an_edge_that_began_anew_counts_from_zero_even_where_it_has_more_than_before() -> None:
    before = EdgeCounts(500, {CLUSTER: ClusterCounts(attempts=5, answers={"2xx": 5}, latency=(5,))})
    after = EdgeCounts(501, {CLUSTER: ClusterCounts(attempts=7, answers={"2xx": 6}, latency=(6,), in_flight=1)})
    sample = last(look(1, before), look(2, after))
    assert (sample.arrivals, sample.codes, sample.latency, sample.in_flight) == (7, {"2xx": 6}, {0: 6}, 1)


def test_an_edge_that_is_silent_makes_no_sample_and_the_next_one_spans_the_time() -> None:
    silent = TrafficReading(1002.0, 2.0, None)
    reported = steps(look(1, cluster(attempts=1)), silent, look(3, cluster(attempts=9)))
    assert reported[1] == []
    assert (reported[2][0].arrivals, reported[2][0].span_s) == (8, 2)


def test_after_too_long_a_time_counting_begins_anew() -> None:
    late = 1 + LONGEST_SPAN_S + 0.1
    reported = steps(look(1), look(late, cluster(attempts=900)), look(late + 1, cluster(attempts=901)))
    assert reported[1] == []
    assert reported[2][0].arrivals == 1


def test_callers_that_wait_are_nobodys_and_so_are_their_calls() -> None:
    waiting = EdgeCounts(100, {"default~shop~activator": ClusterCounts(attempts=3, in_flight=3)})
    before = look(1, served=frozenset({KEY}))
    held = look(2, waiting, held={("default", "shop"): 3})
    quiet = look(3, waiting)
    of_nobody = [s for samples in steps(before, held, quiet)[1:] for s in samples if s.revision == 0]
    assert [(s.arrivals, s.in_flight, s.held) for s in of_nobody] == [(3, 3, 3), (0, 3, 0)]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("default~shop~12", ("default", "shop", 12)),
        ("default~shop~12~held", ("default", "shop", 12)),
        ("default~shop~activator", ("default", "shop", 0)),
        ("default~shop~12~shadow", None),
        ("kaon-api", None),
        ("a~b~c", None),
    ],
)
def test_a_clusters_name_tells_whose_calls_it_counts(name: str, key: object) -> None:
    assert key_of(name) == key


def test_replicas_are_counted_by_phase_and_a_start_that_is_over_is_told_once() -> None:
    start = ColdStart(replica="b", install_s=1, start_s=2, load_s=3)
    replicas = (
        replica_status("a"),
        replica_status("b"),
        replica_status("c", Phase.LOADING),
        replica_status("d", Phase.CRASHED),
    )
    reported = steps(look(1), look(2, replicas=replicas, starts={"b": start}), look(3, replicas=replicas))
    assert [(s.ready, s.starting, s.starts) for samples in reported[1:] for s in samples] == [
        (2, 1, (start,)),
        (2, 1, ()),
    ]


def test_work_is_unknown_only_when_no_replica_told_of_its() -> None:
    replicas = (replica_status("a"), replica_status("b"))
    first = {"a": figures(1), "b": figures(1)}
    some = look(2, replicas=replicas, figures={"a": figures(2, busy_s=0.5, queued=1)})
    none = look(3, replicas=replicas, figures={})
    back = look(4, replicas=replicas, figures={"a": figures(4, busy_s=1.5), "b": figures(4, busy_s=2.5)})
    reported = [
        s for samples in steps(look(1, replicas=replicas, figures=first), some, none, back)[1:] for s in samples
    ]
    assert [(s.busy_s, s.queued) for s in reported] == [
        (0.5, 1),
        (None, None),
        (3.5, 0),
    ]  # and what was missed is reported late


def test_a_sample_has_the_memory_of_the_fullest_replica_and_none_where_nobody_tells() -> None:
    replicas = (replica_status("a"), replica_status("b"))
    reported = {"a": figures(2, memory_bytes=70), "b": figures(2, memory_bytes=50)}
    first = look(1, replicas=replicas, figures={"a": figures(1), "b": figures(1)})
    assert last(first, look(2, replicas=replicas, figures=reported)).memory_bytes == 70
    assert last(first, look(2, replicas=replicas, figures={"a": figures(2)})).memory_bytes is None


def test_what_loads_is_not_at_work_yet() -> None:
    loading = (replica_status("a", Phase.LOADING),)
    sample = last(
        look(1, replicas=loading, figures={"a": figures(1)}),
        look(2, replicas=loading, figures={"a": figures(2, cpu_s=0.9)}),
    )
    assert sample.busy_s == 0


def test_a_replica_is_as_busy_as_its_slots_or_its_processors_and_never_more_than_all_the_time() -> None:
    before = figures(10, busy_s=1.0, cpu_s=5.0)
    assert _busy(before, figures(11, busy_s=1.3, cpu_s=5.1)) == pytest.approx(0.3)
    assert _busy(before, figures(11, busy_s=1.3, cpu_s=5.8)) == pytest.approx(0.8)
    assert _busy(before, figures(11, busy_s=4.0, cpu_s=5.8)) == 1.0


def _busy(before: ReplicaFigures, after: ReplicaFigures) -> float:
    done = work(before, after, 1.0)
    assert done is not None
    return done.busy_s


def test_calls_without_batching_are_batches_of_one_that_take_what_the_processors_took() -> None:
    done = work(figures(10, calls=5), figures(11, calls=15, calls_s=0.01, busy_s=0.01, cpu_s=0.5), 1.0)
    assert done is not None
    assert done.batches == Batches(count=10, rows=10, seconds=0.5, rows_squared=10, rows_seconds=0.5)


def test_what_the_processors_did_for_batches_is_not_put_down_to_other_calls() -> None:
    batches = Batches(count=2, rows=8, seconds=0.6, rows_squared=32, rows_seconds=2.4)
    done = work(figures(10), figures(11, calls=1, calls_s=0.1, busy_s=0.7, cpu_s=0.65, batches=batches), 1.0)
    assert done is not None
    assert done.batches.seconds == pytest.approx(0.7)
    assert work(figures(10), figures(11, busy_s=0.6, cpu_s=0.9, batches=batches), 1.0).batches == batches  # type: ignore[union-attr]


def test_another_process_did_all_that_it_tells_but_for_its_start() -> None:
    done = work(figures(10, busy_s=9.0, began=90), figures(10.5, began_at=2, busy_s=0.2, cpu_s=3.0, began=4), 1.0)
    assert done is not None
    assert (done.busy_s, done.began) == (0.2, 4)


TOTAL = st.integers(0, 1000)
CLUSTERS = st.builds(
    ClusterCounts,
    attempts=TOTAL,
    retries=TOTAL,
    answers=st.dictionaries(st.sampled_from(["1xx", "2xx", "3xx", "4xx", "5xx"]), TOTAL),
    busy=TOTAL,
    unavailable=TOTAL,
    refusals_retried=TOTAL,
    timeouts=TOTAL,
    latency=st.lists(TOTAL, max_size=4).map(tuple),
    in_flight=TOTAL,
)
FIGURES = st.builds(
    ReplicaFigures,
    began_at=st.sampled_from([1.0, 2.0]),
    at_s=st.floats(0, 10),
    codes=st.dictionaries(st.sampled_from(["2xx", "503"]), TOTAL),
    queue_s=st.floats(0, 10),
    began=TOTAL,
    busy_s=st.floats(0, 10),
    cpu_s=st.floats(0, 10),
    calls=TOTAL,
    calls_s=st.floats(0, 10),
)
LOOKS = st.builds(
    TrafficReading,
    at_s=st.just(5.0),
    now=st.floats(0, 10),
    edge=st.none()
    | st.builds(
        EdgeCounts, st.integers(0, 9), st.dictionaries(st.sampled_from([CLUSTER, f"{CLUSTER}~held"]), CLUSTERS)
    ),
    figures=st.dictionaries(st.sampled_from(["a", "b"]), FIGURES),
    replicas=st.sampled_from([(), (replica_status("a"),), (replica_status("a"), replica_status("b", Phase.DRAINING))]),
    served=st.just(frozenset({KEY})),
)


@given(st.lists(LOOKS, max_size=6))
def test_whatever_the_totals_do_no_sample_is_negative_or_busier_than_time_allows(looks: list[TrafficReading]) -> None:
    for samples in steps(*looks):
        for sample in samples:  # its own types refuse what is negative
            assert all(count > 0 for count in (*(sample.codes or {}).values(), *(sample.latency or {}).values()))
            assert (sample.busy_s or 0) <= 2 * LONGEST_SPAN_S


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 5), min_size=1, max_size=12), st.data())
def test_sums_of_samples_are_what_callers_did_also_when_looks_are_missed(
    seconds: list[tuple[int, int, int, int, int]], data: st.DataObject
) -> None:
    total = ClusterCounts(answers={"2xx": 0, "5xx": 0}, latency=(0, 0))
    looks = [look(0, EdgeCounts(0, {CLUSTER: total}))]
    for at, (calls, again, well, badly, slow) in enumerate(seconds, start=1):
        total = replace(
            total,
            attempts=total.attempts + calls + again,
            retries=total.retries + again,
            answers={"2xx": total.answers["2xx"] + well, "5xx": total.answers["5xx"] + badly},
            latency=(total.latency[0] + well, total.latency[1] + slow),
        )
        missed = at < len(seconds) and at % 3 and data.draw(st.booleans())
        looks.append(replace(look(at), edge=None) if missed else look(at, EdgeCounts(0, {CLUSTER: total})))
    samples = [s for reported in steps(*looks) for s in reported]
    assert sum(s.arrivals or 0 for s in samples) == sum(second[0] for second in seconds)
    assert sum((s.codes or {}).get("2xx", 0) for s in samples) == total.answers["2xx"]
    assert sum((s.codes or {}).get("5xx", 0) for s in samples) == total.answers["5xx"]
    assert sum((s.latency or {}).get(1, 0) for s in samples) == total.latency[1]
    assert sum(s.span_s for s in samples) == len(seconds)


@given(st.lists(LOOKS, max_size=6))
def test_after_quiet_all_is_zero(looks: list[TrafficReading]) -> None:
    memory: TrafficHistory | None = None
    for one in looks:
        memory, _ = step("here", memory, one)
    quiet = TrafficReading(
        1.0, 20.0, EdgeCounts(50, {CLUSTER: ClusterCounts(attempts=9, answers={"2xx": 9}, latency=(9,))})
    )
    for now in (20.0, 21.0, 22.0):
        memory, samples = step("here", memory, replace(quiet, now=now))
    for sample in samples:
        assert (sample.arrivals, sample.codes, sample.latency, sample.in_flight, sample.busy_s) == (0, {}, {}, 0, 0)


READY = (replica_status(),)


def wrong_keys(*totals: int, code: str = "4xx") -> list[dict[str, ReplicaFigures]]:
    return [{"a": figures(at_s, not_calls={code: total})} for at_s, total in enumerate(totals, 1)]


@pytest.mark.parametrize(
    ("reported", "codes"),
    [("4xx", {"2xx": 2}), ("429", {"2xx": 2}), ("2xx", {"4xx": 3})],
    ids=["keys", "many", "documents"],
)
def test_requests_that_are_no_calls_are_no_traffic(reported: str, codes: dict[str, int]) -> None:
    counts: dict[str, dict[str, object]] = {
        "4xx": {"answers": {"2xx": 2, "4xx": 3}},
        "429": {"answers": {"2xx": 2, "4xx": 3}, "busy": 3},
        "2xx": {"answers": {"2xx": 3, "4xx": 3}},
    }
    before, after = wrong_keys(4, 7, code=reported)
    at_edge = cluster(
        attempts=6 if reported == "2xx" else 5, latency=(2, 2, 2 if reported == "2xx" else 1), **counts[reported]
    )
    sample = last(look(1, replicas=READY, figures=before), look(2, at_edge, replicas=READY, figures=after))
    assert (sample.arrivals, sample.codes) == (sum(codes.values()), codes)
    assert sample.latency == ({1: 1, 2: 2} if reported == "2xx" else {1: 1, 2: 1}), "the longer ones are of calls"


def test_requests_that_the_edge_tells_of_a_moment_later_are_no_traffic_either() -> None:
    reported = wrong_keys(0, 3, 3, 3)
    at_edge = [
        cluster(),
        cluster(attempts=2, answers={"4xx": 1}),
        cluster(attempts=4, answers={"2xx": 1, "4xx": 3}, latency=(3, 1)),
        cluster(attempts=5, answers={"2xx": 1, "4xx": 4}, latency=(3, 2)),
    ]
    looks = [
        look(now, counts, replicas=READY, figures=one)
        for now, (counts, one) in enumerate(zip(at_edge, reported, strict=True), 1)
    ]
    found = [(s.arrivals, s.codes, s.latency) for samples in steps(*looks)[1:] for s in samples]
    assert found == [(0, {}, {}), (1, {"2xx": 1}, {1: 1}), (1, {"4xx": 1}, {1: 1})]


def test_what_the_edge_never_tells_of_is_taken_out_of_one_look_only() -> None:
    looks = [
        look(1, replicas=READY, figures=wrong_keys(0)[0]),
        *(
            look(
                now,
                cluster(attempts=max(0, now - 3)),
                replicas=READY,
                figures={"a": figures(now, not_calls={"4xx": 9})},
            )
            for now in (2, 3, 4)
        ),
    ]
    assert [s.arrivals for samples in steps(*looks)[1:] for s in samples] == [0, 0, 1]


def test_requests_that_a_deployment_at_zero_refuses_are_no_traffic() -> None:
    """They arrive at the activator's cluster, and are answered by the pair of it and the revision's."""
    away = {("default", "shop"): {"4xx": 2, "2xx": 1}}
    counts = edge(
        default__shop__activator=ClusterCounts(attempts=4, in_flight=1),
        default__shop__1__held=ClusterCounts(answers={"4xx": 2, "2xx": 1}, latency=(3,)),
    )
    found = steps(look(1), look(2, counts, held={("default", "shop"): 1}, turned_away=away))[1]
    assert [(s.revision, s.arrivals, s.codes, s.latency) for s in found] == [(0, 1, {}, {}), (1, 0, {}, {})]
