"""The findings in a deployment's figures, and their texts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import typer.main

from kaon.cli import app
from kaon.laws import advise
from kaon.laws.advise import FIRM, AdviceMinute, AdviceState, AdviceTerms
from kaon.laws.advise.active import RULES
from kaon.laws.advise.state import ACCEPTED
from kaon.types.advice import Advice, Finding
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.tuning import KnobState, Reach, Recommendation, TuningMode
from kaon.types.window import LossParts, Window

MIB = 2**20
OBJECTIVE = Objective(latency_s=0.5)
TERMS = AdviceTerms("default", "greeter", OBJECTIVE, least=1, most=10, largest_batch=8, memory_limit_bytes=512 * MIB)
CHEAP = Batches(count=60, rows=360, seconds=21.6, rows_squared=2400, rows_seconds=144)
"""Of six rows, of which each costs a hundredth of a second: an empty batch costs next to nothing."""
DEAR = Batches(count=1920, rows=2304, seconds=192, rows_squared=3072, rows_seconds=230.4)
"""Of one or two rows; all of a batch's tenth of a second is its own, however many there are."""


def minute(
    terms: AdviceTerms = TERMS, completed: float = 1.0, *, waited: int | None = 0, **figures: Any
) -> AdviceMinute:
    """A minute in which all is well, but for what is given."""
    batches = figures.pop("batches", CHEAP)
    usual: dict[str, Any] = {
        "at_s": 0.0,
        "span_s": 60.0,
        "arrivals": 3000,
        "codes": {"2xx": 3000},
        "failed": 0.001,
        "p90_s": 0.2,
        "p99_s": 0.3,
        "queue_s": 0.001,
        "busy": 0.7,
        "batch_rows": 6.0,
        "ready": 4,
        "memory_bytes": 100 * MIB,
    }
    loss = LossParts(total=1, latency=0, completion=0, utilisation=0, cost=1, completed=completed, price=1)
    return AdviceMinute(terms, Window(loss=loss, **{**usual, **figures}), waited, batches)


@dataclass
class AdvisedDeployment:
    """A deployment's minutes, one after the other."""

    state: AdviceState = field(default_factory=AdviceState)
    minutes: int = 0

    def add(self, minute: AdviceMinute, times: int = 1) -> tuple[Advice, ...]:
        for _ in range(times):
            self.minutes += 1
            at_s = 60.0 * self.minutes
            minute = replace(minute, window=minute.window.model_copy(update={"at_s": at_s}))
            self.state = advise.step(self.state, minute)
        return advise.advice(self.state)


def findings(advice: Sequence[Advice]) -> list[Finding]:
    return [a.finding for a in advice]


def terms(**changes: Any) -> AdviceTerms:
    return replace(TERMS, **changes)


WAIT = KnobState(name="max_wait_s", what="", reach=Reach.REPLICA, low=0, high=0.2, usual=0, value=0)
BETTER = Recommendation(values={"max_batch": 4.0}, gain=0.08, least=0.03, at=1)
MARGIN = Recommendation(values={"margin": 0.9}, gain=0.08, least=0.03, at=1)
EMPTY: dict[str, Any] = {"batch_rows": 1.2, "busy": 0.8, "batches": DEAR}

CASES: list[tuple[Finding, AdviceMinute, int, str, str]] = [
    (Finding.OVERSIZED, minute(terms(least=4), busy=0.1), 30, "--min 1", "3 of 4 replicas fewer (75 % of the cost)"),
    (Finding.UNDERSIZED, minute(terms(most=4), busy=0.95), 0, "scale greeter --max 6", "busy 63 % instead of 95 %"),
    (Finding.UNDERSIZED, minute(terms(most=4), 0.9, busy=0.8), 0, "--max 5", "busy 64 % instead of 80 %"),
    (Finding.UNDERSIZED, minute(terms(least=4, most=4), 0.9, busy=0.8), 0, "--max 5", "up to 1 more"),
    (
        Finding.UNDERSIZED,
        minute(terms(most=4), 0.5, busy=1.0, codes={"2xx": 1500, "shed": 1500}),
        0,
        "--max 12",
        "busy 67 %",
    ),
    (
        Finding.MEMORY,
        minute(memory_bytes=500 * MIB),
        0,
        "kaon set greeter template.resources.memory_bytes=768MiB",
        "65 % of 768 MiB",
    ),
    (
        Finding.BATCH,
        minute(terms(knobs={"max_wait_s": WAIT}, largest_batch=32), **EMPTY),
        0,
        "kaon tune greeter --try max_wait_s=0.05",
        "busy 57 % instead of 80 %",
    ),
    (
        Finding.BATCH,
        minute(terms(mode=TuningMode.OFF), **EMPTY),
        0,
        "kaon tune greeter --recommend",
        "instead of 80 %",
    ),
    (Finding.BATCH, minute(**EMPTY), 0, "kaon tune greeter --auto", "instead of 80 %"),
    (
        Finding.BATCH,
        minute(terms(recommended=BETTER), **EMPTY),
        0,
        "kaon tune greeter --apply",
        "a loss that is 8 % lower, 3 % at least",
    ),
    (Finding.KNOBS, minute(terms(recommended=MARGIN)), 0, "kaon tune greeter --apply", "8 % lower"),
    (
        Finding.COLD_STARTS,
        minute(terms(least=0), start_s=4.0, waited=100, ready=0),
        0,
        "kaon scale greeter --min 1",
        "3.33 % of calls answered 4 s sooner, for 1 replica 100 % of the time",
    ),
    (
        Finding.SLOW,
        minute(p90_s=1.2, p99_s=1.5, busy=0.2),
        0,
        "kaon stats greeter --since 1h",
        "700 ms faster",
    ),
    (
        Finding.ERRORS,
        minute(codes={"2xx": 2700, "5xx": 300}, failed=0.1),
        0,
        "kaon logs greeter --since 10m",
        "270 fewer failed calls per minute",
    ),
]


@pytest.mark.parametrize(("finding", "minutes", "known", "command", "gain"), CASES)
def test_it_is_found_after_it_held_for_a_while_with_its_gain_and_the_command_that_helps(
    finding: Finding, minutes: AdviceMinute, known: int, command: str, gain: str
) -> None:
    deployment = AdvisedDeployment()
    assert deployment.add(minutes, max(FIRM, known) - 1) == ()
    [advice] = deployment.add(minutes, FIRM if known else 1)
    assert (advice.finding, advice.workspace, advice.deployment) == (finding, "default", "greeter")
    assert command in advice.command
    assert gain in advice.gain
    assert advice.since == 60.0 * max(1, known)
    assert any(character.isdigit() for character in advice.evidence)


@pytest.mark.parametrize(("finding", "minutes", "known", "command", "gain"), CASES)
def test_it_is_dropped_after_it_was_well_for_a_while_and_not_before(
    finding: Finding, minutes: AdviceMinute, known: int, command: str, gain: str
) -> None:
    deployment = AdvisedDeployment()
    deployment.add(minutes, FIRM + known)
    if minutes.terms.recommended is not None:
        assert deployment.add(minute()) == (), "at once: there is nothing to be applied any more"
        return
    well = minute(minutes.terms)
    assert findings(deployment.add(well, FIRM - 1)) == [finding]
    day = 60 * 24 if finding is Finding.COLD_STARTS else 1  # that they waited is of the last 24 hours
    assert deployment.add(well, day) == ()


@pytest.mark.parametrize("workspace", ["default", "team-a"])
def test_a_command_names_the_workspace_where_it_must(workspace: str) -> None:
    [advice] = AdvisedDeployment().add(minute(terms(workspace=workspace, most=4), busy=0.95), FIRM)
    assert advice.command.endswith("--max 6" if workspace == "default" else "--max 6 -w team-a")


def test_a_deployment_that_is_well_gets_no_advice() -> None:
    assert AdvisedDeployment().add(minute(), 2000) == ()


def test_a_finding_that_flickers_does_not_become_active() -> None:
    deployment = AdvisedDeployment()
    for _ in range(30):
        assert deployment.add(minute(terms(most=4), busy=0.95), FIRM - 1) == ()
        assert deployment.add(minute(terms(most=4))) == ()


def test_minutes_without_figures_neither_count_nor_clear() -> None:
    deployment = AdvisedDeployment()
    empty = AdviceMinute(terms(most=4), Window(at_s=0, span_s=60))
    for _ in range(FIRM):
        deployment.add(minute(terms(most=4), busy=0.95))
        deployment.add(empty)
    assert findings(deployment.add(empty, 50)) == [Finding.UNDERSIZED]
    assert AdvisedDeployment().add(empty, 50) == ()


def test_a_finding_ends_at_once_when_its_subject_changes_and_others_stay() -> None:
    deployment = AdvisedDeployment()
    deployment.add(minute(terms(most=4), busy=0.95, memory_bytes=500 * MIB), FIRM)
    assert findings(advise.advice(deployment.state)) == [Finding.MEMORY, Finding.UNDERSIZED]
    assert findings(advise.advice(advise.adapt(deployment.state, terms(most=6), 0.0))) == [Finding.MEMORY]
    assert advise.advice(advise.adapt(deployment.state, terms(most=6, memory_limit_bytes=2**30), 0.0)) == ()


# How many replicas


def test_the_evidence_of_too_few_replicas_is_what_is_wrong() -> None:
    [busy] = AdvisedDeployment().add(minute(terms(most=1), busy=0.94, ready=1), FIRM)
    assert busy.evidence == "1 replica, the maximum, is busy 94 % of the time; at most 85 % is right"
    [late] = AdvisedDeployment().add(minute(terms(most=4), 0.9, busy=0.8), FIRM)
    assert late.evidence.endswith("busy 80 % of the time; 90 % of calls succeed in time, 99 % should")


def test_calls_that_fail_while_replicas_are_idle_or_by_the_code_do_not_ask_for_more_replicas() -> None:
    idle = minute(terms(most=4), 0.5, busy=0.2)
    assert AdvisedDeployment().add(idle, 20) == ()
    broken = minute(terms(most=4), 0.8, busy=0.7, codes={"2xx": 2400, "5xx": 600}, failed=0.2)
    assert findings(AdvisedDeployment().add(broken, 20)) == [Finding.ERRORS]


def test_what_a_minimum_holds_ready_for_a_burst_of_the_last_hour_is_no_waste() -> None:
    deployment, fixed = AdvisedDeployment(), terms(least=4)
    deployment.add(minute(fixed, busy=0.1), 58)
    deployment.add(minute(fixed, busy=0.68))
    assert Finding.OVERSIZED not in findings(deployment.add(minute(fixed, busy=0.1), 50)), "the burst needed all four"
    assert findings(deployment.add(minute(fixed, busy=0.1), 90)) == [Finding.OVERSIZED]


def test_a_minimum_is_not_called_too_large_where_a_floor_or_the_law_wants_more() -> None:
    assert AdvisedDeployment().add(minute(terms(least=2), busy=0.1, ready=4), 100) == ()


def test_a_fixed_number_that_the_day_needs_by_the_hour_had_better_be_elastic() -> None:
    deployment, fixed = AdvisedDeployment(), terms(least=4, most=4)
    for hour in range(24):
        found = deployment.add(minute(fixed, busy=0.66 if 8 <= hour < 18 else 0.3), 60)
    [advice] = found
    assert (advice.finding, advice.command) == (Finding.ELASTIC, "kaon scale greeter --min 2")
    assert "needed 2 to 4" in advice.evidence
    assert advise.advice(advise.adapt(deployment.state, terms(least=2, most=4), 0.0)) == ()


def test_a_deployment_without_calls_for_a_day_may_go_to_zero() -> None:
    deployment = AdvisedDeployment()
    quiet = minute(terms(least=2, most=2), arrivals=0, codes={}, failed=None, p99_s=None, busy=0.0, ready=2)
    assert findings(deployment.add(quiet, 22 * 60)) == [Finding.OVERSIZED]
    [advice] = deployment.add(quiet, 2 * 60)
    assert (advice.finding, advice.command) == (Finding.IDLE, "kaon scale greeter --min 0")
    assert "2 of 2 replicas" in advice.gain
    assert Finding.IDLE not in findings(deployment.add(minute(terms(least=2, most=2)), FIRM))


def test_waiting_that_is_rare_or_short_does_not_hurt() -> None:
    zero = terms(least=0)
    assert AdvisedDeployment().add(minute(zero, start_s=0.9, waited=100), 20) == (), "as soon as an answer is wanted"
    assert AdvisedDeployment().add(minute(zero, start_s=4.0, waited=20), 20) == (), "fewer than may be late"
    once = AdvisedDeployment()
    once.add(minute(zero, start_s=4.0, arrivals=4, waited=4, ready=0))
    assert once.add(minute(zero, arrivals=4), 20) == (), "four in a day"


# Batches


def test_an_empty_batch_that_costs_little_or_a_tuner_that_acts_by_itself_needs_no_advice() -> None:
    assert AdvisedDeployment().add(minute(batch_rows=1.2, busy=0.8), 30) == ()
    assert AdvisedDeployment().add(minute(terms(mode=TuningMode.AUTO, recommended=BETTER), **EMPTY), 30) == ()


def test_a_recommendation_that_is_gone_is_not_to_be_applied() -> None:
    deployment = AdvisedDeployment()
    deployment.add(minute(terms(recommended=MARGIN)), FIRM)
    assert advise.advice(advise.adapt(deployment.state, TERMS, 0.0)) == ()


# What is unusual


def calm(deployment: AdvisedDeployment) -> AdvisedDeployment:
    for i in range(40):
        deployment.add(minute(terms(revision=1), p99_s=0.30 + 0.01 * (i % 4)))
    return deployment


def test_an_unusual_latency_is_found_and_becomes_usual_only_after_hours() -> None:
    deployment = calm(AdvisedDeployment())
    strange = minute(terms(revision=1), p99_s=1.2)
    [advice] = deployment.add(strange, 60)
    assert (advice.finding, advice.command) == (Finding.LATENCY, "kaon explain greeter --since 1h")
    assert advice.evidence == "p99 is 1.2 s; usually it is 315 ms"
    assert advice.gain == "885 ms less at p99, when the cause is fixed"
    assert deployment.add(strange, ACCEPTED) == ()


def test_what_began_with_another_revision_is_put_down_to_it_with_the_way_back() -> None:
    deployment = calm(AdvisedDeployment())
    [advice] = deployment.add(minute(terms(revision=2), p99_s=1.2), FIRM)
    assert advice.command == "kaon rollout undo greeter --to 1"
    assert advice.evidence.endswith("it began with revision 2")
    late = calm(AdvisedDeployment())
    late.add(minute(terms(revision=2), p99_s=0.31), 40)
    [advice] = late.add(minute(terms(revision=2), p99_s=1.2), FIRM)
    assert advice.command == "kaon explain greeter --since 1h"


def test_a_latency_that_is_other_than_usual_by_next_to_nothing_is_no_matter() -> None:
    deployment = AdvisedDeployment()
    deployment.add(minute(p99_s=0.004), 40)
    assert deployment.add(minute(p99_s=0.02), 40) == ()


def test_more_errors_than_usual_are_found_with_their_kinds() -> None:
    deployment = AdvisedDeployment()
    deployment.add(minute(failed=0.02, codes={"2xx": 2940, "shed": 60}), 40)
    [advice] = deployment.add(minute(failed=0.2, codes={"2xx": 2400, "shed": 600}), FIRM)
    assert (advice.finding, advice.command) == (Finding.ERRORS, "kaon explain greeter --since 1h")
    assert "600 refused for overload in a minute" in advice.evidence
    assert "usually 2 % do" in advice.evidence


def test_few_calls_say_nothing_of_latency() -> None:
    deployment = calm(AdvisedDeployment())
    assert deployment.add(minute(arrivals=10, p99_s=9.0, p90_s=9.0), 30) == ()


def test_slow_code_is_not_taken_for_a_lack_of_replicas_nor_the_other_way_round() -> None:
    assert AdvisedDeployment().add(minute(p90_s=1.2, busy=0.2, queue_s=0.8), 20) == (), "calls wait"
    assert findings(AdvisedDeployment().add(minute(terms(most=4), 0.5, p90_s=1.2, busy=0.95), 20)) == [
        Finding.UNDERSIZED
    ]


def test_there_is_a_rule_for_each_finding() -> None:
    assert [*RULES, Finding.OTHER] == list(Finding)


# What is to be typed


def commands() -> list[str]:
    """Every command that is advised, in a workspace of its own too."""
    found = {
        a.command for _, minutes, known, *_ in CASES for a in AdvisedDeployment().add(minutes, max(FIRM, known + FIRM))
    }
    undo = calm(AdvisedDeployment()).add(minute(terms(revision=2), p99_s=1.2), FIRM)
    explain = calm(AdvisedDeployment()).add(minute(terms(revision=1), p99_s=1.2), FIRM)
    elsewhere = AdvisedDeployment().add(
        minute(terms(workspace="team-a", recommended=MARGIN), memory_bytes=500 * 2**20), FIRM
    )
    quiet = minute(terms(least=2, most=2), arrivals=0, codes={}, failed=None, busy=0.0, ready=2)
    idle = AdvisedDeployment().add(quiet, 24 * 60)
    fixed, deployment = terms(least=4, most=4), AdvisedDeployment()
    for hour in range(24):
        elastic = deployment.add(minute(fixed, busy=0.66 if 8 <= hour < 18 else 0.3), 60)
    assert EMPTY["batches"] == DEAR
    return sorted(found | {a.command for several in (undo, explain, elsewhere, idle, elastic) for a in several})


@pytest.mark.parametrize("command", commands())
def test_every_advised_command_can_be_typed(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "kaon"
    context: Any = None
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        context = group.make_context("kaon", words[:1], parent=context, ignore_unknown_options=True)
        group, words = group.commands[words[0]], words[1:]
    parsed = group.make_context("kaon", words, parent=context)
    assert parsed.params["name"] == "greeter"


def test_all_kinds_of_commands_are_among_those() -> None:
    verbs = {command.split()[1] for command in commands()}
    assert verbs == {"scale", "set", "tune", "stats", "logs", "explain", "rollout"}
