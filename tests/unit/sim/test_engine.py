"""Simulated replicas: they start, serve, drain and fail as real ones do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kaon.laws import batch
from kaon.laws.service_time import ServiceTime
from kaon.sim import memory
from kaon.sim.engine import NS, SimulatedDeployment, Truth, deployment
from kaon.sim.theory import inoue_bound_s, mmc_response_s
from kaon.sim.traffic import arrivals
from kaon.types.objective import Objective
from kaon.types.service import Batch

OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.5)
PATIENT = Objective(latency_s=100.0, deadline_s=3600.0)
PLAIN = Truth(noise=0.0, start_s=10.0, start_p95_s=10.0)


def world(calls: Any, truth: Truth = PLAIN, objective: Objective = PATIENT, replicas: int = 1) -> SimulatedDeployment:
    made = deployment(truth, objective, calls, compiled=False, slots=64)
    made.scale(replicas)
    return made


def count(made: SimulatedDeployment, what: int) -> int:
    return int(made.world.counts[what])


def test_calls_before_the_first_replica_wait_for_it_and_none_is_lost() -> None:
    made = world([NS, 2 * NS, 3 * NS])
    made.advance(9.9)
    assert count(made, memory.ANSWERED) == 0
    assert count(made, memory.IN_FLIGHT) == 3
    made.advance(11)
    assert count(made, memory.ANSWERED) == 3
    assert count(made, memory.LATENCY_SUM) == sum(10_140_000_000 - t * NS for t in (1, 2, 3))


def test_a_lone_call_takes_the_time_of_a_batch_of_one() -> None:
    made = world([20 * NS])
    made.advance(30)
    assert count(made, memory.LATENCY_SUM) == round((0.02 + 0.08) * NS)


def test_calls_that_come_while_a_batch_runs_are_the_next_batch() -> None:
    made = world([20 * NS, 20 * NS + 1, 20 * NS + 2, 20 * NS + 3])
    made.advance(30)
    assert count(made, memory.BATCHES) == 2
    assert count(made, memory.ROWS) == 4


def test_a_caller_leaves_at_its_deadline() -> None:
    made = world([NS], objective=OBJECTIVE)
    made.advance(20)
    assert count(made, memory.TIMED_OUT) == 1
    assert count(made, memory.MISSED) == 1


def test_scaling_down_ends_no_call() -> None:
    made = world(arrivals([40.0] * 60, 1), replicas=6)
    made.advance(30)
    made.scale(2)
    made.advance(100)
    assert count(made, memory.ANSWERED) == count(made, memory.ARRIVED) == len(made.world.arrivals)
    assert count(made, memory.LOST) == 0
    assert count(made, memory.ALIVE) == 2


def test_replicas_that_still_start_are_let_go_first() -> None:
    made = world([], replicas=2)
    made.advance(15)
    made.scale(5)
    made.scale(3)
    made.advance(16)
    assert (count(made, memory.READY), count(made, memory.COMING)) == (2, 1)


def test_a_replica_is_paid_for_from_its_order_until_it_is_gone() -> None:
    made = world([], replicas=3)
    made.advance(20)
    made.scale(1)
    made.advance(30)
    assert count(made, memory.ALIVE_NS) == (3 * 20 + 10) * NS
    assert count(made, memory.READY_NS) == (3 * 10 + 10) * NS


def test_the_calls_of_a_replica_that_fails_are_tried_again() -> None:
    mortal = Truth(start_s=1.0, start_p95_s=1.0, life_s=20.0)
    made = world(arrivals([20.0] * 60, 1), mortal, replicas=8)
    for second in range(1, 80):
        made.advance(second)
        made.scale(8)
    assert count(made, memory.STARTS) > 8
    assert count(made, memory.LOST) == 0
    assert count(made, memory.ANSWERED) == len(made.world.arrivals)


def test_without_retries_they_are_lost_and_counted() -> None:
    mortal = Truth(start_s=1.0, start_p95_s=1.0, life_s=20.0, retry=False)
    made = world(arrivals([20.0] * 60, 1), mortal, replicas=8)
    for second in range(1, 80):
        made.advance(second)
        made.scale(8)
    assert count(made, memory.LOST) > 0
    assert count(made, memory.ANSWERED) == len(made.world.arrivals)


def test_a_branch_goes_its_own_way() -> None:
    made = world(arrivals([30.0] * 60, 1), replicas=3)
    made.advance(30)
    other = made.branch()
    other.scale(1)
    other.advance(60)
    before = count(made, memory.NOW)
    made.advance(60)
    assert before == 30 * NS
    assert count(made, memory.LATENCY_SUM) != count(other, memory.LATENCY_SUM)


def test_a_branch_that_is_treated_alike_ends_alike() -> None:
    made = world(arrivals([30.0] * 60, 1), Truth(), replicas=3)
    made.advance(30)
    other = made.branch()
    for each in (made, other):
        each.advance(45)
        each.scale(5)
        each.advance(90)
    assert made.world == other.world


def test_observations_add_up_to_what_happened() -> None:
    made = world(arrivals([30.0] * 60, 1), replicas=3)
    observed = []
    for second in range(1, 90):
        made.advance(second)
        observed.append(made.observe())
    assert sum(o.arrivals or 0 for o in observed) == len(made.world.arrivals)
    assert sum(o.answered or 0 for o in observed) == len(made.world.arrivals)
    assert sum(o.batches.rows for o in observed) == len(made.world.arrivals)
    assert observed[-1].in_flight == observed[-1].queued == 0
    assert observed[10].cold_start_s == pytest.approx(10.0)
    assert observed[20].cold_start_s is None


def test_a_wait_is_as_long_as_erlang_says() -> None:
    truth = Truth(a=0.0, b=0.1, max_batch=1, start_s=0.0, exponential=True, shared_queue=True)
    made = world(arrivals([28.0] * 1500, 3), truth, replicas=4)
    made.advance(1600)
    mean_s = count(made, memory.LATENCY_SUM) / count(made, memory.ANSWERED) / NS
    assert mean_s == pytest.approx(mmc_response_s(4, 28.0, 0.1), rel=0.04)


def test_a_replica_with_slots_is_as_many_servers() -> None:
    truth = replace(PLAIN, a=0.0, b=0.1, max_batch=1, exponential=True, slots=4)
    calls = arrivals([28.0] * 3000, 3)
    made = deployment(truth, PATIENT, calls, compiled=None, slots=4)
    made.add_ready(1)
    made.advance(3100)
    observed = made.observe()
    mean_s = int(made.world.counts[memory.LATENCY_SUM]) / NS / len(calls)
    assert mean_s == pytest.approx(mmc_response_s(4, 28.0, 0.1), rel=0.04)
    assert observed.busy_s == pytest.approx(28.0 * 3000 * 0.1 / 4, rel=0.03)


def test_no_more_run_beside_each_other_than_there_are_slots_and_fewer_may_be_allowed() -> None:
    truth = replace(PLAIN, a=0.0, b=1.0, max_batch=1, noise=0.0, slots=3)
    made = deployment(truth, PATIENT, [i * 1000 for i in range(6)], compiled=False, slots=2)
    made.add_ready(1)
    made.advance(1.5)
    assert made.observe().answered == 3
    made.limit(1, 1)
    made.advance(2.5)
    assert made.observe().answered == 3, "those that ran were not stopped"
    assert made.observe().in_flight == 0


def test_an_idle_replica_holds_a_batch_for_company_until_it_is_full_or_its_oldest_call_has_waited() -> None:
    truth = replace(PLAIN, max_batch=3, max_wait_s=0.5)
    made = world([20 * NS, 20 * NS + 1, 30 * NS, 30 * NS + 1, 30 * NS + 2], truth)
    made.advance(25)
    assert (count(made, memory.BATCHES), count(made, memory.ROWS)) == (1, 2)
    assert count(made, memory.LATENCY_SUM) == 2 * (500_000_000 + 120_000_000) - 1
    made.advance(30.2)
    assert (count(made, memory.BATCHES), count(made, memory.ROWS)) == (2, 5), "a full one waits for nobody"
    made.limit(3, max_wait_s=0.0)
    assert made.world.counts[memory.MAX_WAIT] == 0


def test_what_is_held_goes_at_once_when_its_replica_is_let_go() -> None:
    made = world([20 * NS], replace(PLAIN, max_wait_s=5.0))
    made.advance(21)
    made.scale(0)
    made.advance(21.2)
    assert (count(made, memory.ANSWERED), count(made, memory.ALIVE)) == (1, 0)


@pytest.mark.parametrize("max_wait_s", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("rps", [3.0, 15.0, 60.0])
def test_batches_leave_when_the_batchers_law_says_so(max_wait_s: float, rps: float) -> None:
    """The law of a replica's batcher, asked at every moment at which something changes, and the kernel beside it."""
    calls = [20 * NS + int(at) for at in arrivals([rps] * 30, 5)]
    made = world(calls, replace(PLAIN, max_wait_s=max_wait_s))
    made.advance(120)
    spec = Batch(max_size=PLAIN.max_batch, max_wait_s=max_wait_s)
    coming, waiting, now, free, waited = list(calls), [], 0, 0, 0
    sizes = []
    while coming or waiting:
        observed = batch.Waiting((1,) * len(waiting), (now - waiting[0]) / NS if waiting else 0.0, int(now < free), 1)
        decision = batch.decide(spec, ServiceTime(), observed)
        if isinstance(decision, batch.Release):
            gone, waiting = waiting[: decision.calls], waiting[decision.calls :]
            free = now + round((0.02 * len(gone) + 0.08) * NS)
            waited += sum(free - at for at in gone)
            sizes.append(len(gone))
            continue
        again = now + round(decision.again_s * NS) if decision.again_s is not None else free
        now = min(again if waiting else memory.NEVER, coming[0] if coming else memory.NEVER)
        waiting += [coming.pop(0) for _ in range(sum(at == now for at in coming[:9]))]
    assert (count(made, memory.BATCHES), count(made, memory.ROWS)) == (len(sizes), len(calls))
    assert count(made, memory.ROWS_SQUARED) == sum(n * n for n in sizes)
    assert count(made, memory.LATENCY_SUM) == pytest.approx(waited, rel=1e-7)


def test_a_replica_has_a_bounded_number_of_slots() -> None:
    with pytest.raises(ValueError, match="concurrently"):
        deployment(replace(PLAIN, slots=65), PATIENT, [], compiled=False)


def test_greedy_batches_are_within_inoues_bound() -> None:
    made = world(arrivals([25.0] * 1500, 3), Truth(max_batch=256, noise=0.0, start_s=0.0))
    made.advance(1600)
    mean_s = count(made, memory.LATENCY_SUM) / count(made, memory.ANSWERED) / NS
    assert 0.95 <= mean_s / inoue_bound_s(25.0, 0.02, 0.08) <= 1.01


def test_erlangs_formula_is_known_where_it_is_simple() -> None:
    assert mmc_response_s(1, 5.0, 0.1) == pytest.approx(0.2)


def test_orders_that_are_taken_back_again_and_again_leave_no_mark() -> None:
    """Each leaves an event behind that is void: they must not fill the heap."""
    made = world([50 * NS])
    for _ in range(100):
        made.scale(60)
        made.scale(1)
    made.advance(60)
    assert count(made, memory.ANSWERED) == 1
    assert count(made, memory.READY_EVENTS) == 1


def test_scoring_begins_with_a_window() -> None:
    with pytest.raises(ValueError, match="multiple"):
        deployment(PLAIN, PATIENT, [NS], scored_from_s=90.0, compiled=False)
