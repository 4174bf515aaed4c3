"""What the batching law must never do, whatever arrives."""

from __future__ import annotations

from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.batch import Hold, Release, Waiting, decide, parts
from kaon.laws.service_time import ServiceTime, learn_batch
from kaon.types.service import Batch

specs = st.builds(
    Batch,
    max_size=st.integers(1, 64),
    max_wait_s=st.sampled_from([0.0, 0.001, 0.05]),
    latency_s=st.none() | st.floats(0.001, 1.0),
)
costs = st.lists(st.tuples(st.integers(1, 64), st.floats(0.0, 1.0)), max_size=40)
seconds = st.floats(0.0, 10.0)


def after(samples: list[tuple[int, float]]) -> ServiceTime:
    cost = ServiceTime()
    for rows, took_s in samples:
        cost = learn_batch(cost, rows, took_s)
    return cost


@given(specs, costs, st.lists(st.integers(0, 64), max_size=100), seconds, st.integers(0, 3), st.integers(1, 3))
def test_a_batch_never_has_more_rows_than_its_maximum_and_never_starves(
    spec: Batch, samples: list[tuple[int, float]], calls: list[int], waited_s: float, running: int, slots: int
) -> None:
    rows = tuple(min(n, spec.max_size) for n in calls)
    decision = decide(spec, after(samples), Waiting(rows, waited_s, running, slots))
    match decision:
        case Release(calls=count, rows=total):
            assert running < slots
            assert 1 <= count <= len(rows)
            assert sum(rows[:count]) <= total <= spec.max_size
        case Hold(again_s=again_s):
            if rows and running < slots:  # only the user's own max_wait_s holds a free slot, and only so long
                assert again_s is not None
                assert 0 < again_s <= spec.max_wait_s


@given(specs, costs, st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_every_call_leaves_in_order_and_once(spec: Batch, samples: list[tuple[int, float]], calls: list[int]) -> None:
    cost = after(samples)
    left = [min(n, spec.max_size) for n in calls]
    for _ in range(len(calls) + 1):
        if not left:
            break
        decision = decide(spec, cost, Waiting(tuple(left), oldest_wait_s=1000.0))
        assert isinstance(decision, Release)
        left = left[decision.calls :]
    assert left == []


@given(costs)
def test_what_is_learned_stays_finite(samples: list[tuple[int, float]]) -> None:
    cost = after(samples * 10)
    assert all(abs(value) < 1e9 for value in astuple(cost))
    assert not cost.learned or min(cost.line()) >= 0


@given(st.integers(0, 1000), st.integers(1, 64))
def test_parts_cover_a_call_without_gap_or_overlap(rows: int, max_size: int) -> None:
    cuts = parts(rows, max_size)
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(rows))
    assert all(stop - start <= max_size for start, stop in cuts)
