"""What is found in a deployment's figures, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kaon.laws import advise
from kaon.laws.advise import FIRM, Seen, State
from kaon.types.advice import Advice, Finding
from kaon.types.objective import Objective
from kaon.types.window import LossParts, Window

OBJECTIVE = Objective(latency_s=0.5)


def window(completed: float = 1.0, **figures: Any) -> Window:
    usual: dict[str, Any] = {
        "at_s": 60.0,
        "span_s": 60.0,
        "arrivals": 3000,
        "failed": 0.001,
        "p99_s": 0.3,
        "busy": 0.7,
        "batch_rows": 6.0,
        "ready": 4,
    }
    loss = LossParts(total=1, latency=0, completion=0, utilisation=0, cost=1, completed=completed, price=1)
    return Window(loss=loss, **{**usual, **figures})


WELL = Seen("greeter", window(), OBJECTIVE, 1, 10, 8, 100 * 2**20, 512 * 2**20, 0)


def after(windows: list[Seen], known: State | None = None) -> tuple[State, tuple[Advice, ...]]:
    state, advice = known or State(), ()
    for i, seen in enumerate(windows):
        at_s = 60.0 * (i + 1)
        state, advice = advise.step(state, replace(seen, window=seen.window.model_copy(update={"at_s": at_s})))
    return state, advice


CASES: list[tuple[Finding, Seen, str]] = [
    (Finding.OVERSIZED, replace(WELL, window=window(busy=0.1), least=4), "kaon scale greeter --min 1"),
    (Finding.UNDERSIZED, replace(WELL, window=window(busy=0.95), most=4), "kaon scale greeter --max 6"),
    (Finding.UNDERSIZED, replace(WELL, window=window(0.9, busy=0.8), most=4), "kaon scale greeter --max 5"),
    (Finding.MEMORY, replace(WELL, memory_bytes=500 * 2**20), "template.resources.memory_bytes=786432000"),
    (Finding.BATCH, replace(WELL, window=window(batch_rows=1.2, busy=0.8)), "kaon tune greeter --recommend"),
    (
        Finding.COLD_STARTS,
        replace(WELL, window=window(start_s=4.0), least=0, waited=100),
        "kaon scale greeter --min 1",
    ),
]


@pytest.mark.parametrize(("finding", "seen", "command"), CASES)
def test_it_is_found_after_it_held_for_a_while_with_the_command_that_mends_it(
    finding: Finding, seen: Seen, command: str
) -> None:
    assert after([seen] * (FIRM - 1))[1] == ()
    [advice] = after([seen] * FIRM)[1]
    assert advice.finding is finding
    assert command in advice.command
    assert advice.since == 60.0
    assert advice.evidence
    assert advice.gain


@pytest.mark.parametrize(("finding", "seen", "command"), CASES)
def test_it_is_dropped_after_it_was_well_for_a_while_and_not_before(finding: Finding, seen: Seen, command: str) -> None:
    state, _ = after([seen] * FIRM)
    state, advice = after([WELL] * (FIRM - 1), state)
    assert [a.finding for a in advice] == [finding]
    assert after([WELL], state)[1] == ()


def test_a_deployment_that_is_well_gets_no_advice() -> None:
    assert after([WELL] * 100)[1] == ()


def test_what_comes_and_goes_is_not_told() -> None:
    assert after([CASES[0][1], WELL] * 20)[1] == ()


def test_windows_without_figures_neither_count_nor_clear() -> None:
    empty = Seen("greeter", Window(at_s=0, span_s=60), OBJECTIVE)
    state, _ = after([CASES[1][1], empty] * FIRM)
    assert [a.finding for a in after([empty] * 50, state)[1]] == [Finding.UNDERSIZED]
    assert after([empty] * 50)[1] == ()


def test_calls_that_fail_while_replicas_are_idle_do_not_ask_for_more_replicas() -> None:
    assert after([replace(WELL, window=window(0.5, busy=0.2), most=4)] * 20)[1] == ()


def test_what_is_unusual_is_told_and_does_not_become_usual_by_lasting() -> None:
    calm = [replace(WELL, window=window(p99_s=0.30 + 0.01 * (i % 4))) for i in range(30)]
    state, advice = after(calm)
    assert advice == ()
    state, advice = after([replace(WELL, window=window(p99_s=1.2))] * 60, state)
    assert [(a.finding, a.command) for a in advice] == [(Finding.LATENCY, "kaon explain greeter")]
    assert "0.31" in advice[0].evidence


def test_more_errors_than_usual_are_told_and_the_usual_ones_are_not() -> None:
    state, advice = after([replace(WELL, window=window(failed=0.2))] * 40)
    assert advice == ()
    _, advice = after([replace(WELL, window=window(failed=0.4))] * FIRM, state)
    assert [a.finding for a in advice] == [Finding.ERRORS]


def test_few_calls_say_nothing_of_latency() -> None:
    state, _ = after([WELL] * 30)
    assert after([replace(WELL, window=window(arrivals=10, p99_s=9.0))] * 30, state)[1] == ()
