"""Self-tuning against everything else: `make bench-tune TRACES=DIR`; JOBS=2, CHUNK_S=240 to stop and go on later.

All seeds of an arm meet the same calls as those of the others. The arms of the claim come first, seed by seed, then
the others. In the end one of the tuner's lives on each load is played again, alone: that tells what a search costs
here, and whether what was kept, perhaps on another machine, comes out the same. With JUDGE=1 nothing is played: the
cells that are kept are judged; with CELLS=FILE those of another file. `benchmarks.tune.cells` says what is kept.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from benchmarks.report import QUICK, Report
from benchmarks.tune import judge, pages
from benchmarks.tune.arms import arms
from benchmarks.tune.cells import Cell, Cells, Place
from benchmarks.tune.lives import cell, named

SEEDS = int(os.environ.get("SEEDS", "1" if QUICK else "10"))
JOBS = int(os.environ.get("JOBS", "1"))
CHUNK_S = float(os.environ.get("CHUNK_S", "1e9"))
FIRST_SEED = 100
FIRST = (
    *("untuned", "ours", judge.LUCKIEST, "clairvoyant"),
    *("knative tuned", "hpa tuned", "ray-serve tuned", "sky-serve tuned"),
)
"""What the claim is about; the other arms come after these."""
QUICK_ARMS = (*FIRST[:6], "live two-point")


def wanted() -> list[Place]:
    """All places, in the order in which they are played."""
    every = list(arms(next(iter(named().values()))))
    later = [arm for arm in every if arm not in FIRST and not QUICK]
    first = [arm for arm in FIRST if not QUICK or arm in QUICK_ARMS] + ([QUICK_ARMS[-1]] if QUICK else [])
    seeds = range(FIRST_SEED, FIRST_SEED + SEEDS)
    return [(load, seed, arm) for some in (first, later) for seed in seeds for load in named() for arm in some]


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


def again() -> list[Cell]:
    """A life of the tuner on each load, with nothing of this benchmark beside it."""
    lives = (cell((load, FIRST_SEED, "ours")) for load in named())
    return [json.loads(json.dumps(life)) for life in lives]


def main() -> None:
    chosen = os.environ.get("CELLS")
    cells = Cells(Path(chosen) if chosen else None)
    judging = bool(chosen) or os.environ.get("JUDGE", "") not in ("", "0")
    done = judging or play(cells, time.monotonic() + CHUNK_S)
    if not judging and not QUICK:
        cells.publish()
    report = Report("tune")
    cells_run = [cell for cell in cells.kept.values() if chosen or cell["load"] in named()]
    judge.judge(report, cells_run, again() if done and not judging else ())
    if not done:
        report.note("not all cells are done, so no result is written: run it again to go on")
    if not done or not report.bars:
        return
    report.finish()
    if not QUICK:
        pages.write()


if __name__ == "__main__":
    main()
