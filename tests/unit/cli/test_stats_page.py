"""A deployment's figures as a picture, and the command that shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaon.cli.shared.charts import cut, duration, fitted, number, share, text
from kaon.cli.shared.text import width
from kaon.cli.stats.page import page
from kaon.types.objective import Objective
from kaon.types.window import LossParts, RevisionStats, SeriesPoint, Stats, Window

NOW = 1_700_000_000.0
OBJECTIVE = Objective(latency_s=0.2)


def window(span_s: float = 12, **fields: Any) -> Window:
    loss = LossParts(total=2.1, latency=0.1, completion=0.5, utilisation=0.0, cost=1.5, completed=0.98, price=2.0)
    given = {"at_s": NOW - 1, "covered_s": span_s, "arrivals": 600, "rps": 50.0, "codes": {"2xx": 590, "5xx": 10}}
    given |= {"failed": 1 / 60, "p50_s": 0.012, "p90_s": 0.25, "p99_s": 1.5, "queue_s": 0.003, "in_flight": 4}
    given |= {"queued": 1, "ready": 2, "busy": 0.6, "batch_rows": 3.5, "loss": loss}
    return Window.model_validate({"span_s": span_s} | given | fields)


def stats(series: tuple[SeriesPoint, ...] = (), **fields: Any) -> Stats:
    given = {
        "workspace": "default",
        "deployment": "shop",
        "now_s": NOW,
        "objective": OBJECTIVE,
        "windows": (window(12), window(60), window(1800)),
        "step_s": 1.0,
        "series": series,
    }
    return Stats.model_validate(given | fields)


def points(count: int) -> tuple[SeriesPoint, ...]:
    return tuple(
        SeriesPoint(
            at_s=NOW - count + i, rps=i, failed_rps=i % 7 == 0, p90_s=0.004 * i, p99_s=0.006 * i, in_flight=i, ready=2
        )
        for i in range(count)
    )


UNKNOWN = Window(at_s=0, span_s=12)


@pytest.mark.parametrize("across", [40, 80, 160])
@pytest.mark.parametrize("count", [0, 1, 60, 120, 1440])
def test_no_line_is_wider_than_the_terminal_and_all_have_their_place(across: int, count: int) -> None:
    lines = text(page(stats(points(count)), across)).split("\n")
    assert max(width(line) for line in lines) <= across
    assert len(lines) == (27 if count else 25)  # failures have a chart only when there are any
    assert len(page(stats(points(count)), across, 24)) <= 24


def test_the_objective_is_a_line_in_the_chart_and_what_is_above_it_stands_out() -> None:
    drawn = page(stats(points(60)), 80)
    assert sum("┄" in part for line in drawn for _, part in line) > 1
    assert ("red", "250 ms") in [part for line in drawn for part in line]


def test_the_head_tells_the_loss_by_its_parts_and_what_a_miss_costs() -> None:
    head = text(page(stats(), 100)).split("\n")[0]
    assert head == "shop  loss 2.10  latency 0.10  misses 0.50 x 2  utilisation 0.00  cost 1.50"


def test_figures_that_are_old_and_figures_that_are_not_there_are_told() -> None:
    stale = stats(windows=(UNKNOWN, window(60, at_s=NOW - 30), window(1800)))
    assert "figures are 30s old" in text(page(stale, 80))
    nothing = text(page(stats(windows=(UNKNOWN,) * 3), 80))
    assert "no figures in the last minute" in nothing
    assert "calls/s -" in nothing


def test_memory_is_told_with_its_limit_and_stands_out_when_it_is_nearly_full() -> None:
    full = stats(windows=(window(12, memory_bytes=480_000_000),) * 3, memory_limit_bytes=512_000_000)
    drawn = page(full, 80)
    assert "memory 480 MB of 512 MB" in text(drawn)
    assert ("red", "480 MB") in [part for line in drawn for part in line]
    assert "memory" not in text(page(stats(), 80))


def test_revisions_are_rows_of_their_own_when_there_are_several() -> None:
    of = tuple(
        RevisionStats(revision=n, shadow=n == 3, windows=(window(12), window(60), window(1800))) for n in (0, 2, 3)
    )
    drawn = text(page(stats(revisions=of), 100))
    assert "at the edge, 1m" in drawn
    assert "revision 3 (shadow), 1m" in drawn


def test_names_cannot_repaint_the_terminal() -> None:
    evil = stats().model_copy(update={"deployment": "evil\x1b]0;owned\x07"})
    assert "\x1b" not in text(page(evil, 80))


def test_values_are_stretched_or_their_highest_is_taken() -> None:
    assert fitted([1, None], 5) == [1, 1, None, None]
    assert fitted([1, 5, None, 2, 3], 3) == [1, 5, 3]
    assert fitted([], 2) == [None, None]


def test_numbers_are_short_and_the_unknown_is_a_dash() -> None:
    assert [number(v) for v in (None, 0.0, 3.0, 1.25, 123.4, 25_000.0)] == ["-", "0", "3", "1.2", "123", "25k"]
    assert [duration(v) for v in (None, 0.0, 0.0015, 0.25, 1.5)] == ["-", "0", "1.5 ms", "250 ms", "1.5 s"]
    assert [share(v) for v in (None, 0.0, 0.5)] == ["-", "0 %", "50 %"]
    assert share(0.00123, fine=True) == "0.123 %"


def test_stats_of_a_deployment_that_has_none_are_printed_once_where_nobody_watches(deployed: Any, run: Any) -> None:
    said = run("stats", "greeter")
    assert said.code == 0
    assert "no figures" in said.out
    found = json.loads(run("stats", "greeter", "-o", "json").out)
    assert (found["deployment"], len(found["series"]), found["series"][0]["rps"]) == ("greeter", 120, None)
    assert run("stats", "greeter", "-o", "name").out == "greeter\n"
    assert len(json.loads(run("stats", "greeter", "--since", "1h", "-o", "json").out)["series"]) == 60


def test_a_span_that_is_none_and_a_deployment_that_is_none_are_told(deployed: Any, run: Any) -> None:
    assert run("stats", "greeter", "--since", "yesterday").code == 2
    assert run("stats", "nobody").code == 3


def test_no_number_is_cut_a_narrow_table_has_fewer_columns() -> None:
    wide, narrow = (text(page(stats(), across)).split("\n") for across in (120, 48))
    rows = [line for line in narrow if line.startswith(("10s", "1m", "30m"))]
    assert all(max(map(width, lines)) <= across for lines, across in ((wide, 120), (narrow, 48)))
    assert rows
    assert not any(row.endswith("…") for row in rows)
    assert [cut([("", "calls "), ("", "12345")], columns) for columns in (11, 9, 6)] == [
        [("", "calls "), ("", "12345")],
        [("", "calls "), ("", "12…")],
        [("", "calls ")],
    ]
