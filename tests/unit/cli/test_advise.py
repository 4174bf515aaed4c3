"""`kaon advise`: the page, the data, and that what it tells to type is taken."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from kaon.cli.advise import hint, page
from kaon.types.advice import Advice, Advised, Finding

NOW = 1_700_000_000.0
EVIL = "evil\x1b]0;owned\x07"


def said(finding: Finding, evidence: str, gain: str, command: str, ago_s: float = 720) -> Advice:
    return Advice(
        workspace="default",
        deployment="greeter",
        finding=finding,
        since=NOW - ago_s,
        evidence=evidence,
        gain=gain,
        command=command,
    )


MEMORY = said(
    Finding.MEMORY,
    "the fullest replica uses 500 of 512 MiB (98 %)",
    "65 % of 768 MiB; a replica beyond its limit is ended with the calls in it",
    "kaon set greeter template.resources.memory_bytes=768MiB",
)
OVERSIZED = said(
    Finding.OVERSIZED,
    "5 replicas, kept by a minimum of 5, are busy 8 % of the time; no minute of the last hour needed more than 2",
    "3 of 5 replicas fewer (60 % of the cost) when as quiet as now",
    "kaon scale greeter --min 2",
    7300,
)


def test_the_page_has_finding_evidence_gain_and_command(golden: Callable[[str, str], None]) -> None:
    found = Advised(items=(MEMORY, OVERSIZED), well=("shop", "search"), unknown=("new",))
    golden("shown/advice", page(found, NOW, 80) + "\n")


def test_when_all_is_well_or_nothing_is_known_the_page_says_so() -> None:
    assert page(Advised(well=("a", "b")), NOW, 80) == "No findings: a, b."
    assert page(Advised(unknown=("a",)), NOW, 80) == ("No figures yet: a. Advice comes after some minutes of traffic.")
    assert page(Advised(), NOW, 80) == "Nothing is deployed. Begin with: kaon deploy FILE.py:CLASS"


def test_advice_cannot_repaint_the_terminal_and_a_command_is_never_broken() -> None:
    evil = MEMORY.model_copy(update={"evidence": EVIL, "command": f"kaon scale {EVIL} --min " + "1" * 90})
    drawn = page(Advised(items=(evil,)), NOW, 40)
    assert "\x1b" not in drawn
    assert drawn.splitlines()[-1].startswith("  $ kaon scale evil")


def test_a_line_says_what_stands_and_where_to_read_it() -> None:
    assert hint((MEMORY, OVERSIZED), "greeter") == "memory, oversized: kaon advise greeter"
    assert hint((), "greeter") == ""


def test_advice_is_printed_as_a_page_as_data_and_as_names(deployed: None, world: Any, run: Any) -> None:
    assert run("advise").out.startswith("No figures yet: greeter.")
    world.app.state.context.live_status.keep_advice("default", "greeter", lambda: (OVERSIZED,))
    told = run("advise", "greeter")
    assert (told.code, "  $ kaon scale greeter --min 2" in told.out.splitlines()) == (0, True)
    assert [a["command"] for a in json.loads(run("advise", "-o", "json").out)] == ["kaon scale greeter --min 2"]
    assert run("advise", "-o", "name").out == "greeter/oversized\n"
    assert "advice:    oversized: kaon advise greeter" in run("describe", "greeter").out
    assert run("advise", "nobody").code == 3


@pytest.mark.parametrize("advice", [OVERSIZED, MEMORY])
def test_a_command_that_changes_something_is_taken_as_it_stands(deployed: None, run: Any, advice: Advice) -> None:
    if advice is OVERSIZED:
        run("scale", "greeter", "5")
    done = run(*shlex.split(advice.command)[1:])
    assert done.code == 0, done.err
    spec = json.loads(run("get", "deployment", "greeter", "-o", "json").out)["spec"]
    if advice is OVERSIZED:
        assert (spec["scaling"]["min"], spec["scaling"]["max"]) == (2, 5)
    else:
        assert spec["template"]["resources"]["memory_bytes"] == 768 * 2**20
