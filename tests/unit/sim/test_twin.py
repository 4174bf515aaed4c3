"""The twin: fitted to a deployment whose truth is another, and its replays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds
from kaon.laws.service_time import fit
from kaon.laws.tune import scaling
from kaon.laws.tune.epoch import Depth
from kaon.laws.tune.knobs import KnobValues
from kaon.sim.engine import NS, Truth, deployment
from kaon.sim.run import Session, SimulationSetting
from kaon.sim.traffic import arrivals
from kaon.sim.twin import Episode, FittedModel, Twin, TwinFigures, Unevenness, agreement, calibrated, unevennesses
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.8)
TRUTH = Truth(a=0.02, b=0.08, max_batch=16, noise=0.3, start_s=6.0, start_p95_s=9.0)
LAW = Scale(OBJECTIVE, 8)
FORCE = scaling.values(LAW)
CALLS = arrivals([40.0] * 240, 1)


def twin(model: FittedModel, *episodes: Episode) -> Twin:
    return Twin(
        model,
        OBJECTIVE,
        Bounds(1, 40),
        lambda values: scaling.applied(LAW, values),
        lambda values: (model.calls(int(values["max_batch"])), 1, 0.0),
        reference_s=0.03,
        price=1.0,
        episodes=episodes,
        short=(episodes[-1].part(60.0),),
    )


@pytest.fixture(scope="module")
def played_run() -> tuple[Session, list[Batches]]:
    setting = SimulationSetting(TRUTH, OBJECTIVE, Bounds(1, 40), first_replicas=0, slots=64, compiled=False)
    session = Session(LAW, setting, CALLS, 1, ready=4)
    session.world.limit(8)
    batches = []
    for _ in range(120):
        result = session.step()
        if result is not None:
            batches.append(result[0].batches)
    return session, batches


def episode(session: Session) -> Episode:
    return Episode(CALLS, 240.0, 1000.0, 4, None)


def test_it_learns_what_a_batch_costs_from_sums(played_run: tuple[Session, list[Batches]]) -> None:
    found = fit(played_run[1])
    assert found is not None
    a, b = found
    assert 8 * a + b == pytest.approx(0.24, rel=0.15)
    assert fit([]) is None


def test_its_replay_of_what_was_seen_agrees_and_one_with_a_wrong_cost_does_not(
    played_run: tuple[Session, list[Batches]],
) -> None:
    observed = TwinFigures.of(played_run[0].finish())
    cost = fit(played_run[1])
    assert cost is not None
    past = episode(played_run[0])
    right = twin(FittedModel(*cost, 16, Unevenness(0.3), (6.0, 7.0)), past)
    assert agreement(observed, TwinFigures.of(right.replay(past, [(0.0, FORCE)], 1)), 0.4) is None
    wrong = twin(FittedModel(2 * cost[0], 2 * cost[1], 16, Unevenness(0.3)), past)
    assert agreement(observed, TwinFigures.of(wrong.replay(past, [(0.0, FORCE)], 1)), 0.4) is not None


@pytest.mark.parametrize("few", [False, True])
def test_a_play_meets_the_same_luck_again_and_short_ones_are_shorter(
    few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaon.sim.twin.FEW_CALLS", len(CALLS) + few)
    past = Episode(CALLS, 240.0, 0.0, 4, None)
    copy = twin(FittedModel(0.02, 0.08, 16), past)
    assert copy.few is few
    assert copy(FORCE, 3, Depth.WHOLE) == copy(FORCE, 3, Depth.WHOLE)
    assert copy(FORCE, 3, Depth.WHOLE) != copy(FORCE, 4, Depth.WHOLE)
    whole, short = copy(FORCE, 3, Depth.WHOLE), copy(FORCE, 3, Depth.SHORT)
    assert (len(whole), len(short)) == (8 if few else 4, 1)
    assert copy.inputs() == copy.inputs() != replace(copy, price=2.0).inputs()


def test_where_few_calls_came_each_luck_is_another_half_hour_and_all_values_meet_the_same() -> None:
    copy = twin(FittedModel(0.02, 0.08, 16), Episode(CALLS, 240.0, 0.0, 4, None))
    whole, proof = (copy(FORCE, 3, depth) for depth in (Depth.WHOLE, Depth.PROOF))
    came = [tuple(block.arrivals for block in whole[i : i + 4]) for i in (0, 4)]
    came += [tuple(block.arrivals for block in proof[i : i + 4]) for i in range(0, 24, 4)]
    assert len(set(came)) == 8
    lone = copy({**FORCE, "max_batch": 2.0}, 3, Depth.PROOF)
    assert [block.arrivals for block in lone] == [block.arrivals for block in proof]
    assert [block.loss for block in lone] != [block.loss for block in proof]


def test_a_law_begins_with_what_it_learnt_under_the_values_that_it_lived_with() -> None:
    past = Episode(CALLS, 240.0, 1000.0, 4, None, led_in_s=60.0)
    copy = twin(FittedModel(0.02, 0.08, 16), past)
    played_run, alone = (copy.continued(past, {**FORCE, "max_batch": rows}, 3) for rows in (8.0, 1.0))
    assert (played_run.clock_s, played_run.span_s, played_run.led_in_s) == (1240.0, 240.0, 60.0)
    assert played_run.state.service.count > 100
    assert alone.ready > 1.3 * played_run.ready
    assert copy.replay(played_run, [(1240.0, FORCE)], 4).attainment > 0.99


def test_replicas_that_were_there_are_there_from_the_first_call() -> None:
    past = Episode(CALLS, 60.0, 0.0, 4, None).part(60.0)
    outcome = twin(FittedModel(0.02, 0.08, 16), past).replay(past, [(0.0, FORCE)], 1)
    assert outcome.windows[0].ready_s > 2 * 60
    assert outcome.windows[0].well > 0.8 * outcome.windows[0].arrivals


def test_values_change_in_mid_replay_as_they_did_in_truth() -> None:
    past = Episode(CALLS, 240.0, 0.0, 4, None)
    copy = twin(FittedModel(0.02, 0.08, 16), past)
    lone: KnobValues = {**FORCE, "max_batch": 1.0}
    changed = copy.replay(past, [(0.0, FORCE), (120.0, lone)], 1)
    same = copy.replay(past, [(0.0, FORCE)], 1)
    assert changed.windows[0] == same.windows[0]
    assert changed.windows[3].busy_s > 1.3 * same.windows[3].busy_s


def test_what_is_uneven_is_chosen_so_that_the_replay_comes_nearest() -> None:
    past = Episode(CALLS, 120.0, 0.0, 4, None).part(120.0)
    choices = [Unevenness(0.1), Unevenness(0.8), Unevenness(0.1, 0.02)]
    for number, uneven in enumerate(choices):
        observed = TwinFigures.of(twin(FittedModel(0.02, 0.08, 16, uneven), past).replay(past, [(0.0, FORCE)], 1))
        assert calibrated(twin(FittedModel(0.02, 0.08, 16), past), choices, past, [(0.0, FORCE)], 1, observed) == number


@pytest.mark.parametrize(("noise", "stragglers"), [(0.2, 0.0), (0.5, 0.0), (0.1, 0.01)])
def test_all_choices_leave_as_much_unexplained_as_was_seen_and_one_is_the_truth(
    noise: float, stragglers: float
) -> None:
    truth = replace(TRUTH, noise=noise, stragglers=stragglers)
    world = deployment(truth, OBJECTIVE, CALLS, slots=8, compiled=False)
    world.add_ready(4)
    world.advance(240.0)
    observed = world.observe().batches
    cost = fit([observed])
    assert cost is not None
    found = unevennesses(observed, *cost)
    nearest = min(found, key=lambda u: abs(u.stragglers - stragglers) + abs(u.noise - noise))
    assert nearest.noise == pytest.approx(noise, abs=0.12)
    assert nearest.stragglers == pytest.approx(stragglers, abs=0.004)


def test_where_nobody_knows_squares_there_are_other_choices() -> None:
    assert len(unevennesses(Batches(count=10, rows=40, seconds=2), 0.01, 0.1)) > 3


def test_batches_without_any_noise_have_choices_that_have_none() -> None:
    even = [Batches(count=1, rows=n, seconds=0.01 * n + 0.1, rows_squared=n * n, rows_seconds=n * (0.01 * n + 0.1),
                    seconds_squared=(0.01 * n + 0.1) ** 2) for n in (1, 4, 8)]  # fmt: skip
    for off in (-1e-5, 0.0, 1e-5):
        summed = {name: sum(getattr(one, name) for one in even) for name in Batches.model_fields}
        found = unevennesses(Batches(**{**summed, "seconds_squared": summed["seconds_squared"] * (1 + off)}), 0.01, 0.1)
        assert len(found) == 8
        assert max(uneven.noise for uneven in found) < 0.01


def test_a_law_that_was_told_of_calls_knows_what_a_call_costs_in_the_twin_too() -> None:
    law = scaling.applied(LAW, FORCE)
    state = law.begin()
    for second in range(2, 200, 2):
        batches = Batches(count=4, rows=80, seconds=0.96, rows_squared=1600, rows_seconds=19.2)
        result = Observation(at_s=second, span_s=2.0, arrivals=80, batches=batches, began=80, ready=4)
        state, _ = law.step(state, Bounds(1, 40), result)
    past = Episode(CALLS, 240.0, 200.0, 4, state)
    outcome = twin(FittedModel(0.02, 0.08, 16), past).replay(past, [(200.0, FORCE)], 1)
    assert max(outcome.replicas) < 12


def test_calls_of_several_rows_are_played_as_such() -> None:
    one, three = FittedModel(0.02, 0.08, 12), FittedModel(0.02 / 3, 0.08, 12, rows_per_call=3.0)
    assert (three.calls(12), three.calls(2), one.calls(12)) == (4, 1, 12)
    world = deployment(three.truth(), OBJECTIVE, CALLS, slots=16, compiled=False)
    world.add_ready(8)
    world.advance(60.0)
    observed = world.observe()
    assert observed.began is not None
    assert observed.batches.rows == pytest.approx(3 * observed.began)
    a, b = fit([observed.batches]) or (0.0, 0.0)
    assert 12 * a + b == pytest.approx(0.16, rel=0.1)


def test_the_truth_may_change_in_mid_run_but_not_its_largest_batch() -> None:
    setting = SimulationSetting(TRUTH, OBJECTIVE, Bounds(1, 40), first_replicas=4, slots=64, compiled=False)
    session = Session(LAW, setting, CALLS, 1)
    session.world.change(replace(TRUTH, a=0.04))
    with pytest.raises(ValueError, match="max_batch"):
        session.world.change(replace(TRUTH, max_batch=4))
    assert int(CALLS[-1]) < 240 * NS
