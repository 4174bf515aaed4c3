"""The twin's answers: believed where it is right, not where it is wrong by construction, and the same each time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from kaon.errors import Unavailable
from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.laws.tune import randomness, record, scaling
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Search
from kaon.laws.tune.past import Past
from kaon.sim import memory, search
from kaon.sim.engine import NS, Truth
from kaon.sim.run import Session, SimulationSetting
from kaon.sim.search import ThreadedTwin, answer
from kaon.sim.traffic import arrivals, moments, resampled
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.traffic import LATENCY_BOUNDS_S

OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.8)
SERVICE = ServiceSpec(
    name="s", entry="s:S", endpoints=(EndpointSpec(name="e", method="POST", path="/", batch=Batch(max_size=8)),)
)
SCALING = Scaling(min=1, max=40)
TRUTH = Truth(a=0.02, b=0.08, max_batch=8, noise=0.3, start_s=6.0, start_p95_s=9.0)
SPAN_S = 1800


PLAIN = ServiceSpec(name="s", entry="s:S", endpoints=(EndpointSpec(name="e", method="POST", path="/", concurrency=16),))


@cache
def observed_past(truth: Truth = TRUTH) -> Past:
    """Half an hour of a deployment whose truth is of the model's family."""
    calls = arrivals([40.0] * SPAN_S, 1)
    law = choice.law(SCALING, OBJECTIVE, round(truth.max_batch * truth.rows_per_call), at_once=8)
    setting = SimulationSetting(truth, OBJECTIVE, choice.bounds(SCALING), first_replicas=4, slots=64)
    session, past, before, widths = Session(law, setting, calls, 1), Past(), None, None
    for tick in range(SPAN_S // 2):
        if tick % 150 == 1:
            past.snapshot(2.0 * tick, int(session.world.world.counts[memory.READY]), session.state)
        result = session.step()
        world = session.world.world
        scores = [int(x) for x in world.scores[: memory.BUCKETS]]
        counts = [int(x) for x in world.counts]
        if result is not None and before is not None:
            latency: dict[int, int] = {}
            widths = widths or counts[memory.BUCKET] / NS
            for i in range(memory.BUCKETS):
                if scores[i] > before[1][i]:
                    bucket = sum(bound < (i + 0.5) * widths for bound in LATENCY_BOUNDS_S)
                    latency[bucket] = latency.get(bucket, 0) + scores[i] - before[1][i]
            passed = [now - was for now, was in zip(counts, before[0], strict=True)]
            past.second(
                2.0 * (tick + 1),
                passed[memory.ARRIVED],
                span_s=2.0,
                batches=result[0].batches,
                answered=passed[memory.ANSWERED],
                missed=passed[memory.MISSED],
                latency=latency,
                busy_s=passed[memory.BUSY] / NS,
                ready_s=passed[memory.READY_NS] / NS,
                paid_s=passed[memory.ALIVE_NS] / NS,
                queue_s=max(0, passed[memory.LATENCY_SUM] - truth.slots * passed[memory.ROWS_BUSY]) / NS,
                began=passed[memory.ROWS],
                cold_start_s=result[0].cold_start_s,
            )
        before = (counts, scores)
    return past


def query_of(past: Past, service: ServiceSpec = SERVICE) -> TwinQuery:
    space = scaling.space(service, SCALING, OBJECTIVE)
    assert space is not None
    force = scaling.usual(space, service)
    return TwinQuery(
        "w", "d", OBJECTIVE, choice.bounds(SCALING), service, SCALING, space, Search(), force, ((0.0, force),), 1.0,
        past, float(SPAN_S), 7,
    )  # fmt: skip


def test_calls_are_at_the_moments_that_the_dice_say_and_as_many_as_were_counted() -> None:
    found = moments([3, 0, 2], 1000, 7)
    times = [s * NS + int(randomness.uniform(7, 1000 + s, k) * NS) for s, n in enumerate((3, 0, 2)) for k in range(n)]
    assert list(found) == sorted(times)
    assert len(moments([], 0, 1)) == 0


def test_minutes_of_calls_are_the_same_drawn_at_once_or_apart() -> None:
    whole = list(moments([3] * 150, 1000, 7))
    assert whole == sorted(whole)
    assert whole[:30] == list(moments([3] * 10, 1000, 7))
    assert [at - 120 * NS for at in whole[360:]] == list(moments([3] * 30, 1120, 7))


def test_calls_that_might_have_come_instead_are_of_the_same_minutes_and_of_no_seconds_that_were() -> None:
    climb = arrivals([i / 20 for i in range(1800)], 1)
    other = resampled(climb, 1800.0, 3)
    assert list(other) == sorted(other)
    assert 0 <= other[0] <= other[-1] < 1800 * NS
    assert list(resampled(climb, 1800.0, 3)) == list(other) != list(resampled(climb, 1800.0, 4))
    for begin in range(0, 1800, 300):
        came, might = (sum(begin * NS <= at < (begin + 300) * NS for at in calls) for calls in (climb, other))
        assert might == pytest.approx(came, rel=0.15, abs=60)
    alone = resampled(moments([*([0] * 600), *([9] * 20), *([0] * 580)], 0, 1), 1200.0, 5)
    assert all(540 * NS < at < 680 * NS for at in alone)
    assert list(resampled([], 60.0, 1)) == []


def test_a_twin_of_calls_that_carry_several_rows_is_trusted() -> None:
    past = observed_past(replace(TRUTH, max_batch=4, rows_per_call=2.0))
    assert search.rows_per_call(past.sums(SPAN_S - 600, SPAN_S)) == 2
    result = answer(query_of(past))
    assert (result.trusted, result.distrust) == (True, "")


def test_a_twin_of_its_own_family_is_trusted_and_its_epoch_replays_bit_for_bit() -> None:
    result = answer(query_of(observed_past()))
    assert (result.trusted, result.distrust) == (True, "")
    assert result.off.startswith("p50 ")
    assert result.proposal is not None
    assert result.record is not None
    assert record.replays(result.record)
    again = answer(query_of(observed_past()))
    assert (again.proposal, again.search, again.noise) == (result.proposal, result.search, result.noise)


def test_where_few_calls_came_it_also_looks_where_more_of_the_budget_is_left_and_proves_what_it_proposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = answer(query_of(observed_past())).record
    monkeypatch.setattr("kaon.sim.twin.FEW_CALLS", 100_000)
    few = answer(query_of(observed_past())).record
    assert many is not None
    assert few is not None
    assert (many["prove"], few["prove"]) == (False, True)
    assert [kept["hints"][-1]["budget_share"] for kept in (many, few)] == [0.75, 0.08]
    assert len(few["calls"]["whole"][0]) == 2 * len(many["calls"]["whole"][0])
    assert record.replays(json.loads(json.dumps(few)))
    assert answer(query_of(observed_past())).record == few


def test_a_twin_that_is_wrong_by_construction_is_not_trusted_and_says_by_what() -> None:
    past = observed_past().copied()
    for i in range(180):  # batches that were never run: the model takes calls to cost half as much again
        past.second(10.0 * (i + 1), 0, span_s=10.0, busy_s=25.0)
    result = answer(query_of(past))
    assert not result.trusted
    assert result.proposal is None
    assert "busy" in result.distrust


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_calls_without_batching_run_beside_each_other_as_they_did(slots: int) -> None:
    truth = replace(TRUTH, a=0.0, b=0.1, max_batch=1, slots=slots)
    belief = search.checked(query_of(observed_past(truth), PLAIN))
    assert belief.distrust == ""
    assert belief.twin is not None
    assert belief.twin.model.slots == slots


def test_batches_that_are_held_for_company_are_so_in_the_twin() -> None:
    past = observed_past(replace(TRUTH, max_wait_s=0.15))
    assert "p50" in search.checked(query_of(past)).distrust
    batch = Batch(max_size=8, max_wait_s=0.15)
    held = SERVICE.model_copy(update={"endpoints": (SERVICE.endpoints[0].model_copy(update={"batch": batch}),)})
    assert search.checked(query_of(past, held)).distrust == ""
    others = replace(query_of(past, held), by_hand={scaling.MAX_WAIT_S: 0.0})
    assert "p50" in search.checked(others).distrust, "that is not what it was"


def test_a_replica_is_not_taken_to_run_more_beside_each_other_than_its_class_says() -> None:
    sums = observed_past(replace(TRUTH, a=0.0, b=0.1, max_batch=1, slots=16)).sums(0, SPAN_S)
    assert search.slots(PLAIN, sums) == 16
    assert search.slots(SERVICE, sums) == 1


def test_more_calls_than_can_be_played_are_not_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_CALLS", 1000)
    assert "more than can be played" in answer(query_of(observed_past())).distrust


def test_nothing_is_believed_of_a_past_that_is_too_short() -> None:
    assert "yet" in answer(query_of(Past())).distrust
    past = observed_past()
    short = Past()
    for second in range(600):
        short.second(1200.0 + second + 1, past.counts(1200.0 + second, 1201.0 + second)[0])
    short.second(1800.0, 0, batches=past.sums(1200.0, 1800.0).batches)
    short.snapshot(1200.0, 3, None)
    assert "minutes" in answer(query_of(short)).distrust


def test_an_attempt_is_judged_by_itself() -> None:
    query = query_of(observed_past())
    result = answer(replace(query, attempt={**query.force, "max_batch": 1.0}))
    assert result.proposal is not None
    assert (result.proposal.verdict.open, result.proposal.after["max_batch"]) == (False, 1.0)
    assert result.proposal.predicted < 0
    assert result.search == query.search


def test_a_minute_is_foreseen_with_what_was_in_force_and_with_what_is_attempted() -> None:
    query = query_of(observed_past())
    result = answer(replace(query, foresee_s=(1740.0, 1800.0), attempt={**query.force, "max_batch": 1.0}))
    (force, now), (tried, then) = result.foreseen
    assert (force, tried["max_batch"]) == (query.force, 1.0)
    assert then > now


def test_the_twin_goes_by_what_people_have_set() -> None:
    query = replace(query_of(observed_past()), by_hand={"margin": 1.2})
    made = search.law(query, {**query.force, "budget_share": 0.5})
    assert isinstance(made, Scale)
    assert (made.margin, made.budget_share) == (1.2, 0.5)


async def test_the_threaded_twin_answers_the_same_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    query = replace(query_of(observed_past()), foresee_s=(1740.0, 1800.0))
    assert (await ThreadedTwin().ask(query)).foreseen == answer(query).foreseen
    monkeypatch.setattr(search, "available", lambda: False)
    with pytest.raises(Unavailable, match="simulator"):
        await ThreadedTwin().ask(query)


async def test_a_twin_that_is_cancelled_ends_its_thread_before_another_one_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running, ended = threading.Event(), threading.Event()

    def endless(query: TwinQuery, go_on: Callable[[], None]) -> TwinResult:
        running.set()
        try:
            while True:
                go_on()
        finally:
            ended.set()

    monkeypatch.setattr(search, "answer", endless)
    twin, query = ThreadedTwin(), query_of(observed_past())
    asking = asyncio.create_task(twin.ask(query))
    await asyncio.to_thread(running.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()


def test_a_play_ends_when_nobody_waits_for_it() -> None:
    looks = 0

    def go_on() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise search.QueryCancelled

    with pytest.raises(search.QueryCancelled):
        answer(query_of(observed_past()), go_on)


def test_it_searches_no_batch_of_which_two_in_a_row_would_be_late_unless_it_is_in_force() -> None:
    """With a of 0.02 s and b of 0.08 s, two batches of six rows take 0.4 s."""
    query = query_of(observed_past())
    small = answer(replace(query, force={**query.force, "max_batch": 4.0})).record
    large = answer(query).record
    assert small is not None
    assert large is not None
    tops = [next(k["high"] for k in result["knobs"] if k["name"] == "max_batch") for result in (small, large)]
    assert tops == [6, 8]
