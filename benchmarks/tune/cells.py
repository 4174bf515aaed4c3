"""What is done already: every (load, seed, arm) is a cell, a line of a file that is named by all that decides it.

A cell is kept as soon as it is done. A run goes on where another one stopped, as long as laws, simulator and
arms are the same; several processes may write, because a line is appended at once. Those of the published results are
in the repository, so that it goes on from there on another machine too, and anybody may judge them anew.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.report import QUICK

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "benchmarks" / ".tune"
PUBLISHED = ROOT / "benchmarks" / "results" / "tune-cells.jsonl.gz"
"""Of the sources that its first line names."""
_DECIDES = (
    *("src/kaon/laws/*.py", "src/kaon/laws/scaling_peers/*.py", "src/kaon/laws/tune/*.py", "src/kaon/sim/*.py"),
    *("benchmarks/autoscale/loads.py", "benchmarks/autoscale/arms.py", "benchmarks/tune/*.py"),
)
_DECIDES_NOT = frozenset(
    {
        *("src/kaon/laws/advise.py", "src/kaon/laws/canary.py", "src/kaon/laws/rollout.py", "src/kaon/laws/admit.py"),
        *("src/kaon/laws/batch.py", "src/kaon/laws/rights.py", "src/kaon/laws/restraint.py"),
        *("src/kaon/laws/tune/board.py", "src/kaon/laws/tune/live.py", "src/kaon/laws/tune/values_in_force.py"),
        *("src/kaon/laws/tune/knobs_of.py", "src/kaon/laws/tune/record.py"),
        *("src/kaon/sim/picture.py", "src/kaon/sim/platform.py", "src/kaon/sim/theory.py"),
        *(f"benchmarks/tune/{name}.py" for name in ("__main__", "cells", "judge", "pages", "pictures")),
    }
)
"""Modules that only report results, or concern other parts of the platform."""

Cell = dict[str, Any]
Place = tuple[str, int, str]


def sources() -> str:
    """A hash of all code that decides a result."""
    digest = hashlib.sha256()
    for pattern in _DECIDES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if name not in _DECIDES_NOT:
                digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Cells:
    """Those of a file: the one that is named by today's sources, or any other."""

    def __init__(self, path: Path | None = None) -> None:
        KEPT.mkdir(parents=True, exist_ok=True)
        self.path = path or KEPT / f"{'quick-' if QUICK else ''}{sources()}.jsonl"
        if not self.path.exists() and not QUICK and path is None:
            self.path.write_text(_published())
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = [json.loads(line) for line in lines]
        self.kept: dict[Place, Cell] = {(cell["load"], cell["seed"], cell["arm"]): cell for cell in found}

    def add(self, cell: Cell) -> None:
        """Keep one more."""
        self.kept[cell["load"], cell["seed"], cell["arm"]] = cell
        with self.path.open("a") as out:
            out.write(json.dumps(cell) + "\n")

    def publish(self) -> None:
        """Put all of them into the repository; the same cells make the same file."""
        lines = [json.dumps({"sources": sources()}), *(json.dumps(self.kept[place]) for place in sorted(self.kept))]
        PUBLISHED.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def _published() -> str:
    """The cells in the repository, if today's sources are theirs."""
    if not PUBLISHED.exists():
        return ""
    first, _, cells = gzip.decompress(PUBLISHED.read_bytes()).decode().partition("\n")
    return cells if json.loads(first) == {"sources": sources()} else ""
