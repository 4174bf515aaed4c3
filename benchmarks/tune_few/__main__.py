"""The tuner where few calls come: `make bench-tune-few TRACES=DIR`; SEEDS=5, JOBS=2, QUICK=1.

Ten calls a second, each 0.6 s of work, on six replicas or so, as a language or image model has them. Half an hour of
them says little: whether it had a bad minute is chance. So two things are measured. What two hours with the tuner cost
against two hours without, on the same calls. And, with less chance in it, what the knobs that it ended with cost on
other calls of the same load, against those that it began with.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import fmean, median
from typing import Any

from benchmarks.report import QUICK, Report
from benchmarks.tune.judge import share_bad
from benchmarks.tune.lives import named
from benchmarks.tune_few.lives import FEW, RPS, life

SEEDS = int(os.environ.get("SEEDS", "1" if QUICK else "5"))
JOBS = int(os.environ.get("JOBS", "1"))
FIRST_SEED = 100


def ratio(lived: dict[str, Any], key: str = "loss") -> float:
    """With the tuner against without."""
    return float(lived["scores"]["ours"][key] / lived["scores"]["untuned"][key])


def worth(lived: dict[str, Any]) -> float:
    """What the knobs in the end cost on other calls, against those of the beginning."""
    return fmean(lived["others"]["ended"]) / fmean(lived["others"]["began"])


def unsafe(lives: list[dict[str, Any]]) -> float:
    """The share of minutes that are bad with the tuner and not without."""
    ours, untuned = ({i: {"score": one["scores"][arm]} for i, one in enumerate(lives)} for arm in ("ours", "untuned"))
    return fmean(share_bad(ours, untuned, list(range(len(lives)))))


def show(name: str, lives: list[dict[str, Any]]) -> None:
    """A load's line."""
    moved = [one for one in lives if one["final"] != FEW.start]
    print(
        f"| {name} | {fmean(map(ratio, lives)):.3f} | {fmean(map(worth, lives)):.3f} "
        f"| {fmean(ratio(one, 'later_replica_seconds') for one in lives):.3f} "
        f"| {100 * fmean(one['scores']['untuned']['attainment'] for one in lives):.2f} "
        f"| {100 * fmean(one['scores']['ours']['attainment'] for one in lives):.2f} "
        f"| {100 * unsafe(lives):.2f} | {len(moved)} of {len(lives)} |",
        flush=True,
    )


def main() -> None:
    report = Report("tune-few")
    seeds = range(FIRST_SEED, FIRST_SEED + SEEDS)
    places = [(name, seed) for name in named() for seed in seeds]
    with ProcessPoolExecutor(JOBS, mp_context=get_context("spawn")) as pool:
        lives = list(pool.map(life, places))
    print("\n| load | loss | last knobs, other calls | replica-s | in time % untuned | with it | unsafe % | moved |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    by_load = {name: [one for one in lives if one["load"] == name] for name in named()}
    for name, some in by_load.items():
        show(name, some)
    each = [fmean(map(ratio, some)) for some in by_load.values()]
    report.figures = {"world": repr(FEW), "rps": RPS, "lives": lives}
    report.at_most("few_loss_against_untuned", fmean(each), 1.0)
    report.at_most("few_loss_on_the_worst_load", max(each), 1.05)
    report.at_most("few_loss_with_the_last_knobs", fmean(map(worth, lives)), 1.0)
    report.at_most("few_unsafe_minutes", unsafe(lives), 0.005)
    report.at_least("few_records_that_replay", fmean(one["told"]["replays"] for one in lives), 1.0)
    cpu_s = [x for one in lives for x in one["told"]["epoch_cpu_s"]]
    if cpu_s:
        report.at_most("few_epoch_cpu_s", median(cpu_s), 2.0)
    report.finish()


if __name__ == "__main__":
    main()
