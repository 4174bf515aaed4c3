"""`kaon simulate`, typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaon.cli.shared import charts
from kaon.cli.simulate import recorded
from kaon.sim.trace import Trace
from kaon.types.objective import Objective
from kaon.types.window import SeriesPoint, Stats

TRACE = "second,count\n" + "".join(f"{second},{20 + 20 * (second >= 60)}\n" for second in range(120))
KNOWN = ("--set", "service.row_s=0.01", "--set", "service.call_s=0.05", "--set", "service.start_s=5")


@pytest.fixture
def trace(project: Path) -> str:
    (project / "day.csv").write_text(TRACE)
    return "day.csv"


@pytest.mark.usefixtures("deployed")
def test_what_would_have_happened_beside_what_would_with_another_maximum(run: Any, trace: str, project: Path) -> None:
    said = run("simulate", "greeter", "--trace", trace, *KNOWN, "--set", "scaling.max=5", "--svg", "day.svg")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert "3600 calls in 120 s".upper() in lines[0]
    assert "CURRENT SETTINGS" in lines[0]
    assert "WITH SCALING.MAX=5" in lines[0]
    assert "█" in said.out
    assert "assumed" not in said.err
    assert (project / "day.svg").read_text().startswith("<svg")


@pytest.mark.usefixtures("deployed")
def test_as_json_it_says_all_that_it_depends_on(run: Any, trace: str) -> None:
    said = run("simulate", "greeter", "--trace", trace, *KNOWN, "--set", "scaling.max=5", "-o", "json")
    found = json.loads(said.out)
    now, other = found["answers"]
    assert (now["scaling"]["max"], other["scaling"]["max"]) == (1, 5)
    assert now["service"]["call_s"] == other["service"]["call_s"] == 0.05
    assert other["attainment"] > now["attainment"]
    assert other["most_replicas"] > now["most_replicas"] == 1
    assert len(now["load_rps"]) <= 70


@pytest.mark.usefixtures("deployed")
def test_what_is_not_known_yet_is_assumed_and_said(run: Any, trace: str) -> None:
    said = run("simulate", "greeter", "--trace", trace, "--for", "30s")
    assert said.code == 0
    assert "assumed: service.row_s=0.01, service.call_s=0.1, service.start_s=20" in said.err
    assert "600 CALLS IN 30 S" in said.out


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--set", "scaling.mx=5"), "mx"),
        (("--set", "scaling.max=many"), "scaling.max"),
        (("--set", "speed=2"), "field 'speed' does not exist"),
        (("--set", "scaling.max"), "has no '='"),
        (("--set", "scaling.min=5"), "scaling.min (5) is above"),
        (("--from", "1h"), "120 s long"),
        (("--times", "1000000"), "too many for a replay"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Any, trace: str, arguments: tuple[str, ...], what: str) -> None:
    said = run("simulate", "greeter", "--trace", trace, *arguments)
    assert said.code == 2
    assert what in said.err
    assert said.out == ""


@pytest.mark.usefixtures("deployed")
def test_a_bad_file_is_refused_with_its_lines(run: Any, project: Path) -> None:
    (project / "bad.csv").write_text("second,count\n0,5\n1,five\n2,\x1b[31m\n")
    said = run("simulate", "greeter", "--trace", "bad.csv")
    assert said.code == 2
    assert "2 lines are wrong in bad" in said.err
    assert "line 3: not a time and a number: 1,five" in said.err
    assert "\x1b" not in said.err


@pytest.mark.usefixtures("deployed")
def test_without_a_trace_and_without_recorded_calls_it_says_so(run: Any) -> None:
    said = run("simulate", "greeter")
    assert said.code == 2
    assert "No calls of 'greeter' are recorded in the last 6 h" in said.err


def test_own_traffic_begins_where_something_is_known() -> None:
    points = tuple(SeriesPoint(at_s=60.0 * at, rps=rps) for at, rps in enumerate((None, None, 2.0, None, 4.0, None)))
    stats = Stats(workspace="w", deployment="d", now_s=0, objective=Objective(), windows=(), step_s=60, series=points)
    assert recorded("d", stats) == Trace("d", (2.0, 0.0, 4.0), 60)


def test_columns_are_as_high_as_their_values() -> None:
    assert charts.columns([0, 1, 2, 4], 4, 2) == ["   █", " ▄██"]
    assert charts.columns([0, 0], 0, 1) == ["  "]
    assert charts.text(charts.chart([("", "load")], [1.0, 2.0], 2, 2)) == "load\n      2 ┤ █\n      0 ┤██"
