"""`kaon tune`: what it takes, what it tells, and decisions taken again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from kaon.cli.tune.replay import replay
from kaon.cli.tune.request import knob_values, outcome, request_from
from kaon.errors import InvalidInput
from kaon.laws.tune import epoch, record, trial
from kaon.laws.tune.epoch import Search
from kaon.laws.tune.gate import Block
from kaon.laws.tune.knobs import Knob, KnobShape, Space
from kaon.laws.tune.trial import Trial
from kaon.types.journal import JournalEntry
from kaon.types.tuning import KnobState, Reach, TuningMode, TuningRequest, TuningState

SPACE = Space((Knob("max_batch", KnobShape.WHOLE, 1, 32, Reach.REPLICA), Knob("margin", KnobShape.LOG, 0.7, 1.4)))
FORCE = {"max_batch": 8.0, "margin": 1.0}


def play(chosen: dict[str, float], seed: int, whole: bool) -> tuple[Block, ...]:
    """A twin in which larger batches are better."""
    return tuple(Block(2.0 - chosen["max_batch"] / 32 + 0.01 * (n % 3), 600, 598) for n in range(30 if whole else 12))


def entry(at: float, figures: dict[str, Any], concern: str = "tuning") -> JournalEntry:
    """As the API answers it: figures have been through JSON."""
    kept = json.loads(json.dumps(figures))
    return JournalEntry(
        at=at, workspace="default", deployment="greeter", concern=concern, after="x", reason="why", figures=kept
    )


def epoch_figures(seed: int = 7) -> dict[str, Any]:
    _, found = epoch.propose(SPACE, Search(), FORCE, play, seed, 0.99, ())
    return record.of_epoch(SPACE, Search(), seed, 0.99, (), "ab" * 8, found)


def trial_figures() -> dict[str, Any]:
    windows = tuple(trial.TrialWindow(1.0 + 0.01 * n, 200, 1.0) for n in range(6))
    better = tuple(trial.TrialWindow(0.9 + 0.01 * n, 200, 0.95) for n in range(6))
    tried = Trial(Reach.REPLICA, FORCE, {**FORCE, "max_batch": 16.0}, 0.05, 1.0, 100.0, force=windows, tried=better)
    finding = trial.judge(tried)
    assert finding is not None
    return record.of_trial(tried, finding)


def test_decisions_come_out_of_their_records_and_those_by_hand_are_not_the_tuners() -> None:
    found = replay([entry(1, epoch_figures()), entry(2, trial_figures()), entry(3, {"kind": "change"})])
    assert (len(found.same), len(found.differ), len(found.by_hand)) == (2, 0, 1)


@pytest.mark.parametrize(
    "tampered",
    [
        {"seed": 8},
        {"predicted": 0.5},
        {"after": FORCE},
        {"reason": "because"},
        {"looks": []},
        {"looks": None},
        {"knobs": [{"name": "x"}]},
        {"knobs": []},
        {"target": "high"},
        {"kind": "trial"},
    ],
)
def test_a_record_that_was_changed_is_named(tampered: dict[str, Any]) -> None:
    wrong = entry(2, epoch_figures() | tampered)
    found = replay([entry(1, epoch_figures()), wrong])
    assert found.differ == (wrong,)
    assert len(found.same) == 1


@pytest.mark.parametrize(
    "tampered", [{"promoted": False}, {"realised": 1.0}, {"tried": []}, {"force": [[1]]}, {"loss": {}}]
)
def test_a_trial_that_was_changed_is_named(tampered: dict[str, Any]) -> None:
    figures = trial_figures() | tampered
    differs = tampered != {"loss": {}}  # what the windows are compared with decides nothing
    assert bool(replay([entry(1, figures)]).differ) is differs


MODES = {TuningMode.AUTO: False, TuningMode.RECOMMEND: False, TuningMode.OFF: False}


def test_one_thing_is_said_at_a_time() -> None:
    assert request_from("web", MODES, False, False, [], []) is None
    assert request_from("web", {**MODES, TuningMode.AUTO: True}, False, False, [], []) == TuningRequest(
        mode=TuningMode.AUTO
    )
    two = request_from("web", MODES, False, False, ["max_batch=16", "max_wait_s=2s"], [])
    assert two == TuningRequest(set={"max_batch": 16, "max_wait_s": 2})
    with pytest.raises(InvalidInput, match="exclude each other"):
        request_from("web", MODES, True, False, [], ["max_batch=16"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_batch", "NAME=VALUE"),
        ("=3", "NAME=VALUE"),
        ("max_batch=many", "is not a number"),
        ("max_batch=nan", "is not a number"),
        ("max_batch=", "is not a number"),
        ("x=1e999", "is not a number"),
        ("max_batch=16s", "is not a number"),  # no time, so no unit: 16 seconds are not 16 rows
        ("max_wait_s=5 parsecs", "is not a number"),
        ("Max Batch=3", "no such knob"),
    ],
)
def test_what_is_no_value_is_refused_with_how_to_write_it(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        knob_values([text], "--set", "greeter")
    assert "--set" in refused.value.hint


def test_times_are_typed_as_they_are_shown() -> None:
    assert knob_values(["max_wait_s=5 ms"], "--set", "greeter") == {"max_wait_s": 0.005}
    assert knob_values(["max_wait_s=0.005"], "--set", "greeter") == {"max_wait_s": 0.005}


def test_a_knob_that_is_named_twice_is_refused_and_not_the_last_one_taken() -> None:
    with pytest.raises(InvalidInput, match="has a knob twice"):
        knob_values(["max_batch=8", "max_batch=16"], "--set", "greeter")


WHY = "nothing is worth a trial"


def state(mode: TuningMode = TuningMode.RECOMMEND, **force: float) -> TuningState:
    knob = KnobState(
        name="max_batch",
        what="rows",
        reach=Reach.REPLICA,
        low=1,
        high=32,
        whole=True,
        usual=8,
        value=force.get("max_batch", 8),
    )
    return TuningState(workspace="default", deployment="greeter", mode=mode, state="still", reason=WHY, knobs=(knob,))


@pytest.mark.parametrize(
    ("request_", "after", "says"),
    [
        (TuningRequest(apply=True), state(max_batch=16), "In force in a few seconds: max_batch 8 -> 16."),
        (TuningRequest(set={"max_batch": 8}), state(), "already in force"),
        (TuningRequest(undo=True), state(), "No trial runs for greeter"),
        (TuningRequest(attempt={"max_batch": 16}), state(), "To be tried: max_batch 8 -> 16"),
        (TuningRequest(mode=TuningMode.OFF), state(TuningMode.OFF), "is off"),
        (TuningRequest(mode=TuningMode.AUTO), state(TuningMode.AUTO), "keeps those that are"),
        (TuningRequest(mode=TuningMode.AUTO), state(TuningMode.AUTO), "\nNow: still: nothing is worth a trial."),
        (TuningRequest(undo=True), state(max_batch=16), "To reverse it: kaon tune greeter --set max_batch=8"),
    ],
)
def test_what_came_of_it_is_told(request_: TuningRequest, after: TuningState, says: str) -> None:
    assert says in outcome(request_, state(), after)


def journalled(world: Any, entries: Sequence[JournalEntry]) -> None:
    async def keep() -> None:
        uid = (await world.store.get("deployment", "default", "greeter")).uid
        await world.store.keep_journal([entry.model_copy(update={"uid": uid}) for entry in entries])

    asyncio.run(keep())


def test_the_page_and_its_documents(deployed: Any, world: Any, run: Any) -> None:
    said = run("tune", "greeter")
    assert (said.code, said.out.split("\n")[0]) == (0, "greeter  mode recommend  learning")
    assert json.loads(run("tune", "greeter", "-o", "json").out)["mode"] == "recommend"
    assert yaml.safe_load(run("tune", "greeter", "-o", "yaml").out)["mode"] == "recommend"
    assert run("tune", "greeter", "-o", "name").out == "greeter\n"
    assert run("tune", "nobody").code == 3


def test_a_mode_is_set_and_told_with_what_comes_next(deployed: Any, world: Any, run: Any) -> None:
    for mode in ("auto", "off", "recommend"):
        said = run("tune", "greeter", f"--{mode}", "-o", "json")
        assert (said.code, json.loads(said.out)["mode"]) == (0, mode)
        assert "greeter" in said.err
    assert "TuningMode" in run("events", "greeter").out


def test_values_are_put_in_force_and_taken_back(deployed: Any, world: Any, run: Any) -> None:
    said = run("tune", "greeter", "--set", "concurrency=4")
    assert (said.code, said.out) == (0, "")
    assert said.err == "In force in a few seconds: concurrency 16 -> 4. To reverse it: kaon tune greeter --undo\n"
    assert run("tune", "greeter", "--set", "concurrency=4", "-o", "name").out == "greeter\n"


def test_on_no_terminal_what_is_watched_is_printed_once(deployed: Any, world: Any, run: Any) -> None:
    assert run("tune", "greeter", "--watch").out == run("tune", "greeter").out


def test_where_nothing_is_tuned_the_page_says_what_would_change_that(deployed: Any, world: Any, run: Any) -> None:
    page = run("tune", "greeter").out
    assert "kaon scale greeter --min 1 --max 4 gives it a choice" in page
    assert "twin" not in page
    refused = run("tune", "greeter", "--try", "concurrency=4")
    assert (refused.code, "kaon tune greeter --set concurrency=4" in refused.err) == (2, True)


def test_what_cannot_be_ends_with_the_code_of_its_kind(deployed: Any, world: Any, run: Any) -> None:
    assert run("tune", "greeter", "--apply").code == 2
    wrong = run("tune", "greeter", "--set", "batch=16")
    assert (wrong.code, "batch: no such knob; the knobs are: concurrency" in wrong.err) == (2, True)
    assert "hint:  See its knobs: kaon tune greeter" in wrong.err
    assert run("tune", "greeter", "--set", "max_batch=16", "--undo").code == 2
    looks = run("tune", "greeter", "--watch", "--replay")
    assert (looks.code, "kaon tune greeter" in looks.err) == (2, True)
    assert run("tune", "nobody", "--auto").code == 3
    for name in ("", "../greeter"):
        wrong = run("tune", name)
        assert (wrong.code, "is not a name" in wrong.err, "kaon ps" in wrong.err) == (2, True, True)


def test_replay_tells_how_many_agree_and_fails_when_one_does_not(deployed: Any, world: Any, run: Any) -> None:
    assert "made no decision yet" in run("tune", "greeter", "--replay").out
    journalled(world, [entry(1, epoch_figures()), entry(2, trial_figures()), entry(3, {"x": 1}, "scaling")])
    said = run("tune", "greeter", "--replay")
    assert (said.code, said.out) == (0, "2 of 2 recomputed decisions for greeter are the same, to the last bit.\n")
    journalled(world, [entry(1_700_000_000, epoch_figures() | {"predicted": 0.5}), entry(5, {"kind": "change"})])
    said = run("tune", "greeter", "--replay")
    assert (said.code, "2 of 3 recomputed decisions" in said.out, "2023-11-14 22:13:20Z" in said.err) == (1, True, True)
    assert run("tune", "greeter", "--replay", "-o", "name").out == "2023-11-14 22:13:20Z\n"
    found = json.loads(run("tune", "greeter", "--replay", "-o", "json").out)
    assert (found["same"], len(found["differ"]), found["by_hand"]) == (2, 1, 1)


def test_the_mode_may_stand_in_a_file_and_in_a_deploy(deployed: Any, world: Any, run: Any, project: Any) -> None:
    assert run("deploy", "greeter.py:Greeter", "--set", "tuning.mode=auto", "--dry-run").code == 0
    (project / "all.yaml").write_text(
        "kind: deployment\nname: greeter\nsource: greeter.py:Greeter\nspec: {tuning: {mode: auto}}\n"
    )
    assert run("apply", "-f", "all.yaml", "-y").code == 0
    assert json.loads(run("tune", "greeter", "-o", "json").out)["mode"] == "auto"
