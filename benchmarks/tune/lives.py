"""The loads, and a cell played: what the processes of the benchmark do."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from benchmarks.autoscale.loads import Load, generated, read
from benchmarks.report import QUICK
from benchmarks.tune.arms import Arm, arms
from benchmarks.tune.cells import Cell, Place

DAYS, HOUR_S = 4, 3600


def loads() -> list[Load]:
    """The traces of a folder, or some made here."""
    folder = os.environ.get("TRACES")
    if QUICK:
        made = read(Path(folder), 2)[:1] if folder else generated(2400)[1:2]
        return [replace(x, rates=x.rates[:2400], scored_from_s=600.0) for x in made]
    return [lengthened(x) for x in read(Path(folder), DAYS)] if folder else generated(2 * HOUR_S)


def lengthened(load: Load) -> Load:
    """A trace of one day, or of an hour, again and again until it is two hours long: a first day that is tuned on and
    later ones that report. The calls come at other moments each time."""
    times = max(1, round(2 * HOUR_S / load.span_s))
    if times == 1:
        return load
    first_s = 60.0 * round(min(load.span_s, HOUR_S) / 60)
    return replace(load, rates=load.rates * times, scored_from_s=first_s)


@cache
def named() -> dict[str, Load]:
    return {load.name: load for load in loads()}


@cache
def made(load: str, arm: str) -> Arm:
    """An arm, with its grid tuned: once in each process."""
    return arms(named()[load])[arm]()


def cell(place: Place) -> Cell:
    """A cell, played."""
    load, seed, arm = place
    began = time.process_time()
    score, counts = made(load, arm)(seed)
    counts["cpu_s"] = round(time.process_time() - began, 2)
    return {"load": load, "seed": seed, "arm": arm, "score": asdict(score), "told": counts}
