"""Finding a better point in the twin: knobs, perturbations, gate, epoch."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from kaon.laws.tune import epoch, gate, randomness, record, spsa, warm
from kaon.laws.tune.epoch import Depth, Search
from kaon.laws.tune.gate import Block, Played
from kaon.laws.tune.knobs import Knob, KnobShape, KnobValues, Reach, Space

SPACE = Space(
    (
        Knob("batch", KnobShape.WHOLE, 1, 32, Reach.REPLICA),
        Knob("wait", KnobShape.LOG, 0.001, 1.0, Reach.REPLICA),
        Knob("share", KnobShape.SHARE, 0.05, 0.95),
    )
)
START: KnobValues = {"batch": 2.0, "wait": 0.5, "share": 0.2}
BEST: KnobValues = {"batch": 16.0, "wait": 0.02, "share": 0.7}


def bowl(values: KnobValues, seed: int, depth: Depth) -> Played:
    """A twin whose loss is the distance from BEST, with much noise that all points share."""
    off = sum((a - b) ** 2 for a, b in zip(SPACE.point(values), SPACE.point(BEST), strict=True))
    count = 30 if depth else 10
    return tuple(Block(2 + off + 0.5 * randomness.gaussian(seed, 5, i), 100, 100, i >= count - 5) for i in range(count))


def test_values_survive_the_way_through_the_cube() -> None:
    assert SPACE.values(SPACE.point(START)) == pytest.approx(START)
    assert SPACE.point(SPACE.values((0.0, 0.5, 1.0)))[1:] == pytest.approx((0.5, 1.0))


def test_a_knob_refuses_a_range_that_has_no_logarithm() -> None:
    with pytest.raises(ValueError, match="no range"):
        Knob("wait", KnobShape.LOG, 0, 1)
    with pytest.raises(ValueError, match="no range"):
        Knob("share", KnobShape.SHARE, 0.1, 1)


def test_more_than_eight_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 8"):
        Space(tuple(Knob(f"k{i}", KnobShape.LOG, 1, 2) for i in range(9)))


def test_a_space_may_end_lower_but_keeps_room_for_a_move() -> None:
    assert SPACE.below({"batch": 12.0}).knobs[0].high == 12
    assert SPACE.below({"batch": 0.5}).knobs[0].high == 2
    assert SPACE.below({"batch": 99.0}) == SPACE


@pytest.mark.parametrize("largest", [2, 3, 4, 8, 12, 16, 32])
def test_a_whole_number_may_always_move_by_one(largest: int) -> None:
    space = Space((Knob("batch", KnobShape.WHOLE, 1, largest, Reach.REPLICA, slew=0.16),))
    for rows in range(1, largest):
        fewer, more = {"batch": float(rows)}, {"batch": float(rows + 1)}
        assert space.allows(fewer, more)
        assert space.allows(more, fewer)
        assert space.moved(fewer, (1.0,)) != fewer
        assert space.moved(more, (0.0,)) != more


def test_a_pool_knob_among_the_changed_ones_needs_the_whole_pool() -> None:
    assert SPACE.reach(START, {**START, "batch": 4.0}) is Reach.REPLICA
    assert SPACE.reach(START, {**START, "batch": 4.0, "share": 0.3}) is Reach.POOL


def test_one_wild_block_does_not_carry_a_difference_away() -> None:
    quiet = [0.1, -0.1, 0.05, 0.0, -0.05, 0.1, -0.1, 0.02]
    assert abs(sum(spsa.winsorised([*quiet, 1000.0])) / 9) < 100


def test_the_step_goes_down_the_slope_and_no_further_than_trusted() -> None:
    _, move = spsa.step(spsa.Slope(), (3.0, -0.5, 0.0), 0.1)
    assert move[0] == pytest.approx(-0.1)
    assert move[1] == pytest.approx(0.1)
    assert move[2] == 0


def test_trust_follows_what_came_of_what_was_promised() -> None:
    assert spsa.widened(0.1, 0.6) > 0.1
    assert spsa.widened(0.1, 0.4) == pytest.approx(0.05)
    assert spsa.widened(0.02, -1.0) == 0.02
    assert spsa.widened(0.25, 1.0) == 0.25


def blocks(loss: float, well: int = 1000, count: int = 30, burst: float | None = None) -> Played:
    return tuple(
        Block(burst if burst is not None and i < 5 else loss + 0.01 * (i % 3), 1000, well, i < 5) for i in range(count)
    )


def test_the_gate_opens_for_what_is_surely_better() -> None:
    assert gate.judge(blocks(2.0), blocks(1.8), 0.99).open


@pytest.mark.parametrize(
    ("force", "candidate", "why"),
    [
        (blocks(2.0), blocks(1.99), "not surely"),
        (blocks(2.0, count=19), blocks(1.0, count=19), "blocks"),
        (blocks(2.0, well=991), blocks(1.0, well=989), "completion"),
        (blocks(2.0, burst=3.0), blocks(1.5, burst=3.3), "burst"),
        (blocks(2.0), blocks(2.2), "not surely"),
    ],
)
def test_the_gate_stays_shut(force: Played, candidate: Played, why: str) -> None:
    verdict = gate.judge(force, candidate, 0.99)
    assert not verdict.open
    assert why in verdict.reason


def test_without_a_burst_the_busiest_minutes_are_used() -> None:
    def played(quiet: float, busy: float) -> Played:
        return tuple(Block(busy if i < 5 else quiet + 0.01 * (i % 3), 3000 if i < 5 else 1000, 1000) for i in range(30))

    verdict = gate.judge(played(2.0, 3.0), played(1.5, 3.4), 0.3)
    assert "worse in the burst" in verdict.reason


def test_completion_far_above_its_target_may_be_spent() -> None:
    assert gate.judge(blocks(2.0, well=1000), blocks(1.5, well=993), 0.99).open


def test_a_gain_that_one_block_has_alone_does_not_open_the_gate() -> None:
    force = (*blocks(2.0)[:-1], Block(500.0, 1000, 1000))
    assert not gate.judge(force, blocks(2.0), 0.99).open


def test_epochs_walk_to_the_optimum_and_then_stop() -> None:
    search, force, moves = Search(), START, 0
    for seed in range(40):
        search, found = epoch.propose(SPACE, search, force, bowl, seed, 0.99)
        for knob, a, b in zip(SPACE.knobs, SPACE.point(force), SPACE.point(found.after), strict=True):
            assert abs(a - b) <= knob.slew + 1e-9
        if found.verdict.open:
            force, moves = found.after, moves + 1
        if search.done:
            break
    assert search.done
    assert moves <= 15
    assert gate.mean_loss(bowl(force, 1, Depth.WHOLE)) < gate.mean_loss(bowl(START, 1, Depth.WHOLE)) - 0.5
    assert gate.mean_loss(bowl(force, 1, Depth.WHOLE)) < gate.mean_loss(bowl(BEST, 1, Depth.WHOLE)) + 0.06


def test_a_hint_is_tried() -> None:
    near = {**BEST, "wait": 0.04}
    _, found = epoch.propose(SPACE, Search(epoch=99), near, bowl, 3, 0.99, (BEST,))
    assert BEST in [look.values for look in found.looks]


def test_an_epoch_replays_from_its_record_and_a_changed_record_does_not() -> None:
    before = Search()
    _, found = epoch.propose(SPACE, before, START, bowl, 7, 0.99)
    kept = record.of_epoch(SPACE, before, 7, 0.99, (), "hash", found)
    figures = json.loads(json.dumps(kept))
    assert record.replays(figures)
    figures["predicted"] = math.nextafter(figures["predicted"], 9)
    assert not record.replays(figures)
    assert replace(found, after=START) != found


def test_the_model_alone_chooses_the_largest_batch_that_is_in_time() -> None:
    assert warm.best_batch(0.02, 0.08, 0.6, 0.0, 32) == 11
    assert warm.best_batch(0.02, 0.08, 0.1, 0.0, 32) == 1
    assert warm.best_batch(0.0, 0.08, 0.6, 0.0, 32) == 32


def test_random_numbers_are_functions_of_their_arguments_and_fill_the_unit_interval() -> None:
    draws = [randomness.uniform(1, 2, i) for i in range(2000)]
    assert draws == [randomness.uniform(1, 2, i) for i in range(2000)]
    assert 0.47 < sum(draws) / 2000 < 0.53
    assert len(set(draws)) == 2000
    assert randomness.uniform(1, 3, 0) != randomness.uniform(1, 2, 0) != randomness.uniform(2, 2, 0)
    points = [randomness.spread(i, 3) for i in range(64)]
    assert all(sum(p[d] < 0.5 for p in points) in range(28, 37) for d in range(3))


@pytest.mark.parametrize("prove", [True, False])
def test_a_candidate_that_passed_must_pass_again_with_other_seeds_where_the_twin_requires_it(prove: bool) -> None:
    asked: list[Depth] = []

    def lucky(values: KnobValues, seed: int, depth: Depth) -> Played:
        asked.append(depth)
        flattered = 0.5 if values != START and depth != Depth.PROOF else 0.0
        count = 90 if depth == Depth.PROOF else 30
        return tuple(
            Block(2 - flattered + 0.01 * randomness.gaussian(seed, 5, i), 100 + i, 100 + i) for i in range(count)
        )

    before = Search(epoch=99)
    after, found = epoch.propose(SPACE, before, START, lucky, 7, 0.99, prove=prove)
    assert (found.verdict.open, asked.count(Depth.PROOF)) == (not prove, 2 if prove else 0)
    assert after.still == (1 if prove else 0)
    assert found.predicted == pytest.approx(0.0 if prove else 0.5, abs=0.01)
    figures = json.loads(json.dumps(record.of_epoch(SPACE, before, 7, 0.99, (), "", found, prove=prove)))
    assert record.replays(figures)
    unproven = {**figures, "looks": [look for look in figures["looks"] if look[1] < Depth.PROOF]}
    assert record.replays(unproven) is not prove


def test_a_knob_that_is_held_goes_down_only() -> None:
    for seed in range(6):
        before = Search(epoch=seed)
        _, free = epoch.propose(SPACE, before, START, bowl, seed, 0.99, (BEST,))
        _, found = epoch.propose(SPACE, before, START, bowl, seed, 0.99, (BEST,), held=("batch",))
        assert free.after["batch"] > START["batch"]
        assert found.after["batch"] <= START["batch"]
        kept = record.of_epoch(SPACE, before, seed, 0.99, (BEST,), "", found, held=("batch",))
        assert record.replays(json.loads(json.dumps(kept)))


def test_a_record_from_before_proofs_had_calls_of_their_own_replays() -> None:
    before = Search(epoch=99)
    _, found = epoch.propose(SPACE, before, START, bowl, 7, 0.99, prove=True)
    figures = json.loads(json.dumps(record.of_epoch(SPACE, before, 7, 0.99, (), "", found, prove=True)))
    assert figures["looks"][-1][1] == Depth.PROOF
    del figures["prove"], figures["calls"]["proof"]
    assert record.replays(figures)


def test_of_many_minutes_a_twelfth_are_the_busiest() -> None:
    force = tuple(Block(2.0, 1000 + i, 1000 + i) for i in range(120))
    better = tuple(Block(3.0 if i in (114, 112, 111) else 1.0, 1000 + i, 1000 + i) for i in range(120))
    assert gate.judge(force, better, 0.99).open
    worse = tuple(Block(3.0 if 110 <= i < 117 else 1.0, 1000 + i, 1000 + i) for i in range(120))
    assert "worse in the burst" in gate.judge(force, worse, 0.99).reason
