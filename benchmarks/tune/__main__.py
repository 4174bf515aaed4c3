"""Self-tuning against everything else: `make bench-tune TRACES=DIR`; SEEDS=10, CHUNK_S=240 to stop and go on later.

Every (load, seed, arm) is a cell that is kept under benchmarks/.tune when it is done; a run goes on where another
one stopped, as long as laws, simulator and benchmark are the same. All seeds of an arm meet the same calls as
those of the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.autoscale.loads import Load, generated, read
from benchmarks.report import QUICK, Report
from benchmarks.tune import judge
from benchmarks.tune.arms import Arm, arms

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "benchmarks" / ".tune"
SEEDS = int(os.environ.get("SEEDS", "1" if QUICK else "10"))
CHUNK_S = float(os.environ.get("CHUNK_S", "1e9"))
DAYS = 3
FIRST = (
    *("untuned", "ours", "best knobs in hindsight", "clairvoyant"),
    *("knative tuned", "hpa tuned", "ray-serve tuned", "sky-serve tuned"),
)
"""What the claim is about; the other arms come after these."""
QUICK_ARMS = (*FIRST[:6], "live two-point")


def sources() -> str:
    """A hash of all code that decides a result."""
    digest = hashlib.sha256()
    for folder in ("src/kaon/laws", "src/kaon/sim", "benchmarks/tune", "benchmarks/autoscale"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in ("judge.py", "__main__.py", "pictures.py"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def loads() -> list[Load]:
    """The traces of a folder, at most four days of each; or some made here."""
    folder = os.environ.get("TRACES")
    if QUICK:
        made = read(Path(folder), 2)[:1] if folder else generated(2400)[1:2]
        return [replace(x, rates=x.rates[:2400], scored_from_s=600.0) for x in made]
    return read(Path(folder), DAYS) if folder else generated(5400)


class Cells:
    """What is done already."""

    def __init__(self) -> None:
        KEPT.mkdir(parents=True, exist_ok=True)
        self.path = KEPT / f"{'quick-' if QUICK else ''}{sources()}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.kept: dict[tuple[str, int, str], dict[str, Any]] = {}
        for line in lines:
            cell = json.loads(line)
            self.kept[cell["load"], cell["seed"], cell["arm"]] = cell

    def add(self, load: str, seed: int, arm: str, score: dict[str, Any], told: dict[str, Any]) -> None:
        cell = {"load": load, "seed": seed, "arm": arm, "score": score, "told": told}
        self.kept[load, seed, arm] = cell
        with self.path.open("a") as out:
            out.write(json.dumps(cell) + "\n")


def play(cells: Cells, until: float) -> bool:
    """All that is missing, seed by seed, until the time is up; whether all is done."""
    named = {load.name: arms(load) for load in loads()}
    made: dict[tuple[str, str], Arm] = {}
    for first, number, load in product((True, False), range(SEEDS), loads()):
        seed = 100 + number
        for name, make in named[load.name].items():
            if (name in FIRST) is not first or (QUICK and name not in QUICK_ARMS):
                continue
            if (load.name, seed, name) in cells.kept:
                continue
            if time.monotonic() > until:
                return False
            if (load.name, name) not in made:
                made[load.name, name] = make()
            began = time.process_time()
            score, told = made[load.name, name](seed)
            told["cpu_s"] = round(time.process_time() - began, 2)
            cells.add(load.name, seed, name, asdict(score), told)
            print(
                f"{load.name} {seed} {name}: L {score.loss:.3f}, later {score.later_loss:.3f}, "
                f"{100 * score.later_attainment:.2f} %, {score.later_replica_seconds:.0f} replica-s, "
                f"{told['cpu_s']:.1f} CPU-s",
                flush=True,
            )
    return True


def main() -> None:
    cells = Cells()
    done = play(cells, time.monotonic() + CHUNK_S)
    report = Report("tune")
    judge.judge(report, list(cells.kept.values()))
    if not done:
        report.note("not all cells are done: run it again to go on")
    report.finish()


if __name__ == "__main__":
    main()
