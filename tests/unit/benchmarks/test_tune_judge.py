"""From cells of `make bench-tune` to its clauses."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.report import Report
from benchmarks.tune import judge, pages

SEEDS = (1, 2)


def score(loss: float, replica_seconds: float = 100.0, bad: int = -1) -> dict[str, Any]:
    """A life of two hours, every minute of it as costly; one of them may be bad."""
    return {
        "loss": loss,
        "attainment": 0.995,
        "replica_seconds": 2 * replica_seconds,
        "worst_burn_5min": 1.0,
        "later_loss": loss,
        "later_attainment": 0.995,
        "later_replica_seconds": replica_seconds,
        "p99_s": 1.0,
        "losses": [loss] * 120,
        "bad": [minute == bad for minute in range(120)],
    }


def cells() -> list[judge.Cell]:
    """A load on which tuning saves a fifth; with one setting of the knobs each seed has luck of its own."""
    grids = {1: [score(1.5), score(1.6)], 2: [score(1.9), score(1.7)]}
    made = []
    for seed in SEEDS:
        told = [{"knobs": {"max_batch": 8.0 * (n + 1), "budget_share": 0.5, "contest_share": 0.1}, "score": s}
                for n, s in enumerate(grids[seed])]  # fmt: skip
        arms = {
            "untuned": (score(2.0), {}),
            "ours": (score(1.7, 80.0, bad=7), {"tried": [6, 7], "epoch_cpu_s": [1.0, 3.0]}),
            "clairvoyant": (score(1.0), {}),
            judge.LUCKIEST: (min(grids[seed], key=lambda s: s["loss"]), {"grid": told}),
        } | {arm: (score(3.0), {}) for arm in judge.REACTIVE}
        made += [{"load": "day", "seed": seed, "arm": a, "score": s, "told": t} for a, (s, t) in arms.items()]
    return made


def test_the_best_knobs_are_those_of_all_lives_and_the_luckiest_those_of_each() -> None:
    found = judge.one(judge.table(cells())["day"])
    assert found["hindsight"]["max_batch"] == 16
    assert round(found["above_hindsight_after_an_hour"][0], 3) == round((1.7 / 1.6 + 1.7 / 1.7) / 2 - 1, 3)
    assert round(found["above_luckiest_after_an_hour"][0], 3) == round((1.7 / 1.5 + 1.7 / 1.7) / 2 - 1, 3)


def test_a_minute_is_unsafe_where_the_tuned_life_is_bad_and_the_untuned_is_not() -> None:
    found = judge.one(judge.table(cells())["day"])
    assert found["unsafe_windows"][0] == found["unsafe_windows_while_trying"][0] == 1 / 120
    assert found["unsafe_windows_of_hindsight"][0] == 0


def test_the_share_of_a_gap_is_told_only_where_there_is_one() -> None:
    assert judge.closed([2.0, 2.0], [1.5, 1.5], [1.0, 1.0]) == (0.5, 0.5, 0.5)
    assert judge.closed([2.0, 2.0], [1.5, 1.5], [1.0, 3.0]) is None


def test_clauses_become_bars_and_a_page_that_names_what_fails() -> None:
    report = Report("tune")
    judge.judge(report, cells(), [cell for cell in cells() if cell["arm"] == "ours"])
    bars = {bar.name: bar for bar in report.bars}
    assert bars["share_of_loads_15_percent_fewer_replica_seconds"].value == 1
    assert bars["unsafe_windows_mean"].ok is False
    assert (bars["epoch_cpu_s_median"].value, bars["epoch_cpu_s_p90"].ok) == (3, False)
    assert bars["lives_that_come_out_as_kept"].ok
    told = json.loads(json.dumps({"figures": report.figures, "notes": [], "bars": [vars(b) for b in report.bars]}))
    page = pages.page(told)
    assert "| unsafe windows mean | 0.00833 | 0.005 | **fails** |" in page
    assert "| day | won | +20.0% (+20.0% to +20.0%) |" in page
    assert "| untuned | 2 | +17.6% (+17.6% to +17.6%) | 0.00% | 0% |" in page
    assert "| ours | 2 | +0.0% (+0.0% to +0.0%) | 0.83% | 0% |" in page


def test_a_life_that_comes_out_otherwise_than_kept_is_told_and_nothing_is_timed_without_one() -> None:
    report = Report("tune")
    life = next(cell for cell in cells() if cell["arm"] == "ours")
    judge.judge(report, cells(), [{**life, "score": score(1.8)}])
    assert [bar.ok for bar in report.bars if bar.name == "lives_that_come_out_as_kept"] == [False]
    untimed = Report("tune")
    judge.judge(untimed, cells())
    assert not [bar for bar in untimed.bars if bar.name.startswith(("epoch", "lives"))]
