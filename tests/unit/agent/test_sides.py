"""What replicas did by the knobs that they have, while some of them try others."""

from __future__ import annotations

from typing import Any

import pytest
from tests.replicas import replica_status

from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory, step
from kaon.agent.traffic.sides import with_sides
from kaon.edge.counts import EdgeCounts
from kaon.laws.traffic import merge
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.observation import Batches
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import Sample, Side

FORCE, TRIED = Knobs().named().version, Knobs(max_batch=2).named().version
PLANNED = PlannedKnobs(trial=Knobs(max_batch=2), replicas=("a",)).named()
TRIALS = {("default", "shop"): PLANNED}


def figures(at_s: float, knobs: str = FORCE, began_at: float = 1.0, **fields: Any) -> ReplicaFigures:
    return ReplicaFigures(began_at=began_at, at_s=at_s, knobs=knobs, **fields)


def look(now: float, *replicas: ReplicaStatus, trials: Any = TRIALS, **made: ReplicaFigures) -> TrafficReading:
    edge = EdgeCounts(100, {})
    return TrafficReading(1000 + now, now, edge, figures=made, replicas=replicas, trials=trials)


def samples(*looks: TrafficReading) -> list[Sample]:
    """Those of the last look, as the observer makes them."""
    memory: TrafficHistory | None = None
    made: list[Sample] = []
    for one in looks:
        before = memory
        memory, made = step("here", before, one)
        made = with_sides(made, before.reading, one) if before else made
    return made


def sides(*looks: TrafficReading) -> dict[str, Side]:
    (sample,) = samples(*looks)
    assert [side.knobs for side in sample.sides] == sorted(side.knobs for side in sample.sides)
    return {side.knobs: side for side in sample.sides}


A, B, C = (replica_status(name) for name in "abc")


def test_without_a_trial_samples_have_no_sides() -> None:
    (sample,) = samples(look(1, A, trials={}, a=figures(1)), look(2, A, trials={}, a=figures(2, codes={"2xx": 5})))
    assert sample.sides == ()


def test_each_side_has_what_its_own_replicas_answered() -> None:
    before = look(1, A, B, C, a=figures(1, TRIED, codes={"2xx": 10}, latency={3: 10}), b=figures(1), c=figures(1))
    batch = Batches(count=1, rows=4, seconds=0.5, rows_squared=16, rows_seconds=2)
    after = look(
        2,
        A,
        B,
        C,
        a=figures(
            2, TRIED, codes={"2xx": 14, "503": 1, "4xx": 1}, latency={3: 12, 9: 4}, busy_s=0.5, batches=batch, began=6
        ),
        b=figures(2, codes={"2xx": 7, "5xx": 2, "429": 1}, latency={4: 10}, busy_s=0.25),
        c=figures(2, codes={"2xx": 1}, latency={4: 1}),
    )
    assert sides(before, after) == {
        TRIED: Side(
            knobs=TRIED,
            replicas=1,
            answered=6,
            failed=1,
            latency={3: 2, 9: 4},
            busy_s=0.5,
            ready_s=1,
            batches=batch,
        ),
        FORCE: Side(knobs=FORCE, replicas=2, answered=11, failed=3, latency={4: 11}, busy_s=0.25, ready_s=2),
    }


def test_what_was_done_with_two_kinds_of_knobs_is_on_no_side() -> None:
    before = look(1, A, B, a=figures(1), b=figures(1))
    after = look(2, A, B, a=figures(2, TRIED, codes={"2xx": 9}), b=figures(2, codes={"2xx": 1}))
    assert {knobs: side.answered for knobs, side in sides(before, after).items()} == {FORCE: 1}


def test_a_process_that_began_anew_counts_from_zero() -> None:
    before = look(1, A, a=figures(1, TRIED, codes={"2xx": 100}, latency={1: 100}))
    after = look(2, A, a=figures(0.5, FORCE, began_at=2.0, codes={"2xx": 3}, latency={1: 3}))
    assert sides(before, after)[FORCE].answered == 3
    assert sides(before, after)[FORCE].latency == {1: 3}


def test_a_replica_that_does_not_answer_is_on_no_side() -> None:
    before = look(1, A, B, a=figures(1, TRIED), b=figures(1))
    assert set(sides(before, look(2, A, B, b=figures(2)))) == {FORCE}


def test_a_replica_on_its_way_out_works_for_its_side_but_is_not_ready() -> None:
    before = look(1, A, a=figures(1, TRIED))
    after = look(2, replica_status("a", Phase.DRAINING), a=figures(2, TRIED, codes={"2xx": 1}))
    side = sides(before, after)[TRIED]
    assert (side.replicas, side.ready_s, side.answered) == (0, 0, 1)


@pytest.mark.parametrize("phase", [Phase.CRASHED, Phase.CONFIG_ERROR])
def test_a_replica_that_ended_is_told_once_on_the_side_that_it_was_on(phase: Phase) -> None:
    before = look(1, A, B, a=figures(1, TRIED), b=figures(1))
    gone = look(2, replica_status("a", phase), B, b=figures(2))
    found = sides(before, gone)
    assert {knobs: side.ended for knobs, side in found.items()} == {TRIED: 1, FORCE: 0}
    still = look(3, replica_status("a", phase), B, b=figures(3))
    assert {k: s.ended for k, s in sides(before, gone, still).items()} == {FORCE: 0}
    again = look(4, replica_status("a", Phase.LOADING, restarts=1), B, b=figures(4))
    assert {k: s.ended for k, s in sides(before, gone, still, again).items()} == {FORCE: 0}


def test_a_replica_that_ended_and_came_back_between_two_looks_is_told_of() -> None:
    before = look(1, A, a=figures(1, TRIED))
    after = look(2, replica_status("a", restarts=1), a=figures(0.5, FORCE, began_at=2.0))
    assert {k: s.ended for k, s in sides(before, after).items()} == {TRIED: 1, FORCE: 0}


def test_one_that_ended_before_it_ever_told_its_knobs_is_on_the_side_that_the_plan_has_it_on() -> None:
    before = look(1, replica_status("a", Phase.LOADING), replica_status("b", Phase.LOADING))
    after = look(2, replica_status("a", Phase.CRASHED), replica_status("b", Phase.CRASHED))
    assert {k: s.ended for k, s in sides(before, after).items()} == {TRIED: 1, FORCE: 1}


def test_one_that_ended_as_soon_as_it_took_its_knobs_is_on_the_side_of_those() -> None:
    before = look(1, A, B, a=figures(1, FORCE), b=figures(1, TRIED))
    after = look(2, replica_status("a", Phase.CRASHED), replica_status("b", Phase.CRASHED))
    assert {k: s.ended for k, s in sides(before, after).items()} == {TRIED: 2}, "b has not given them back yet"


def test_a_start_that_could_not_begin_is_no_end() -> None:
    before = look(1, replica_status("a", Phase.INSTALLING))
    assert sides(before, look(2, replica_status("a", Phase.CRASHED))) == {}


def test_sides_are_of_their_own_revision() -> None:
    before = look(1, A, replica_status("n", revision=2), a=figures(1, TRIED), n=figures(1))
    after = look(2, A, replica_status("n", revision=2), a=figures(2, TRIED), n=figures(2, codes={"2xx": 5}))
    found = {sample.revision: [side.answered for side in sample.sides] for sample in samples(before, after)}
    assert found == {1: [0], 2: [5]}


def of(at_s: float, cloud: str, *found: Side) -> Sample:
    return Sample(workspace="default", deployment="shop", revision=1, cloud=cloud, at_s=at_s, span_s=1, sides=found)


def test_sides_add_up_by_knobs_and_have_as_many_replicas_as_there_were_last() -> None:
    batches = Batches(count=1, rows=2, seconds=0.1, rows_squared=4, rows_seconds=0.2)
    tried = Side(knobs=TRIED, replicas=1, answered=3, failed=1, latency={2: 3}, busy_s=0.5, ready_s=1, batches=batches)
    force = Side(knobs=FORCE, replicas=4, answered=20, latency={1: 20}, ready_s=4)
    whole = merge(
        [
            of(1, "east", tried, force),
            of(2, "east", tried, force.model_copy(update={"replicas": 3, "ended": 1})),
            of(2, "west", force),
            of(1, "west", force),
        ]
    )
    found = {side.knobs: side for side in whole.sides}
    assert (
        found[TRIED].model_dump()
        == Side(
            knobs=TRIED,
            replicas=1,
            answered=6,
            failed=2,
            latency={2: 6},
            busy_s=1,
            ready_s=2,
            batches=Batches(count=2, rows=4, seconds=0.2, rows_squared=8, rows_seconds=0.4),
        ).model_dump()
    )
    assert (found[FORCE].replicas, found[FORCE].answered, found[FORCE].ended, found[FORCE].ready_s) == (7, 80, 1, 16)


def test_a_side_that_ended_has_no_replicas_in_the_sum() -> None:
    whole = merge([of(1, "east", Side(knobs=TRIED, replicas=1, answered=5)), of(2, "east", Side(knobs=FORCE))])
    assert {side.knobs: (side.replicas, side.answered) for side in whole.sides} == {TRIED: (0, 5), FORCE: (0, 0)}


def test_sides_survive_their_way_as_json() -> None:
    sample = of(1, "east", Side(knobs=TRIED, replicas=1, latency={2: 3}))
    assert Sample.model_validate_json(sample.model_dump_json(exclude_defaults=True)) == sample
