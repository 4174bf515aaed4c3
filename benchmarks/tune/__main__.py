"""Self-tuning against everything else: `make bench-tune TRACES=DIR`; JOBS=2, CHUNK_S=240 to stop and go on later.

All seeds of an arm meet the same calls as those of the others. The arms of the claim come first, seed by seed, then
the others with fewer seeds. With JUDGE=1 nothing is played: the cells that are kept are judged; with CELLS=FILE
those of another file. `benchmarks.tune.cells` says what is kept.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from benchmarks.autoscale.loads import Load, generated, read
from benchmarks.report import QUICK, Report
from benchmarks.tune import judge, pages
from benchmarks.tune.arms import Arm, arms
from benchmarks.tune.cells import Cell, Cells, Place

SEEDS = int(os.environ.get("SEEDS", "1" if QUICK else "10"))
FEW = min(SEEDS, int(os.environ.get("FEW", "5")))
"""Seeds of the arms that the claim is not about."""
JOBS = int(os.environ.get("JOBS", "1"))
CHUNK_S = float(os.environ.get("CHUNK_S", "1e9"))
FIRST_SEED = 100
DAYS, HOUR_S = 4, 3600
FIRST = (
    *("untuned", "ours", "best knobs in hindsight", "clairvoyant"),
    *("knative tuned", "hpa tuned", "ray-serve tuned", "sky-serve tuned"),
)
"""What the claim is about; the other arms come after these."""
QUICK_ARMS = (*FIRST[:6], "live two-point")


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
    score, told = made(load, arm)(seed)
    told["cpu_s"] = round(time.process_time() - began, 2)
    return {"load": load, "seed": seed, "arm": arm, "score": asdict(score), "told": told}


def wanted() -> list[Place]:
    """All places, in the order in which they are played."""
    every = list(arms(next(iter(named().values()))))
    later = [arm for arm in every if arm not in FIRST and not QUICK]
    first = [arm for arm in FIRST if not QUICK or arm in QUICK_ARMS] + ([QUICK_ARMS[-1]] if QUICK else [])
    seeds = [FIRST_SEED + number for number in range(SEEDS)]
    places = [(load, seed, arm) for seed in seeds[:FEW] for load in named() for arm in first]
    places += [(load, seed, arm) for seed in seeds[FEW:] for load in named() for arm in first]
    return places + [(load, seed, arm) for seed in seeds[:FEW] for load in named() for arm in later]


def play(cells: Cells, until: float) -> bool:
    """All that is missing, until the time is up; whether all is done."""
    left = [place for place in wanted() if place not in cells.kept]
    if JOBS == 1:
        for place in left:
            if time.monotonic() > until:
                return False
            _keep(cells, cell(place))
        return True
    with ProcessPoolExecutor(JOBS, mp_context=get_context("spawn")) as pool:
        running: set[Future[Cell]] = set()
        while (left and time.monotonic() < until) or running:
            while left and len(running) < JOBS and time.monotonic() < until:
                running.add(pool.submit(cell, left.pop(0)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                _keep(cells, future.result())
    return not left


def _keep(cells: Cells, played: Cell) -> None:
    cells.add(played)
    score = played["score"]
    print(
        f"{played['load']} {played['seed']} {played['arm']}: L {score['loss']:.3f}, later {score['later_loss']:.3f}, "
        f"{100 * score['later_attainment']:.2f} %, {score['later_replica_seconds']:.0f} replica-s, "
        f"{played['told']['cpu_s']:.1f} CPU-s",
        flush=True,
    )


def main() -> None:
    told = os.environ.get("CELLS")
    cells = Cells(Path(told) if told else None)
    judging = bool(told) or os.environ.get("JUDGE", "") not in ("", "0")
    done = judging or play(cells, time.monotonic() + CHUNK_S)
    report = Report("tune")
    judge.judge(report, list(cells.kept.values()))
    if not done:
        report.note("not all cells are done: run it again to go on")
    report.finish()
    if not QUICK:
        pages.write()


if __name__ == "__main__":
    main()
