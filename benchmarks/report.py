"""What every benchmark ends with: one line per bar, and the whole run as JSON with machine and versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
QUICK = os.environ.get("QUICK", "") not in ("", "0")
"""A run of under a minute: fewer rounds, and only peers that are installed already."""


@dataclass(frozen=True)
class Bar:
    """A figure and its goal."""

    name: str
    value: float
    goal: float
    ok: bool

    def __str__(self) -> str:
        return f"bar {self.name} {self.value:.4g} {self.goal:g} {'ok' if self.ok else 'short'}"


@dataclass
class Report:
    """One benchmark's run."""

    name: str
    versions: Mapping[str, str] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    started_at: float = field(default_factory=time.time)

    def at_least(self, name: str, value: float, goal: float) -> None:
        """A bar that the more the better passes."""
        self.bars.append(Bar(name, round(value, 6), goal, value >= goal))

    def at_most(self, name: str, value: float, goal: float) -> None:
        """A bar that the less the better passes."""
        self.bars.append(Bar(name, round(value, 6), goal, value <= goal))

    def note(self, text: str) -> None:
        """Something that a reader of the figures must know."""
        self.notes.append(text)
        print(f"note: {text}", flush=True)

    def finish(self) -> None:
        """Print the bars and write benchmarks/results/NAME.json."""
        self.save()
        print("\n".join(map(str, self.bars)), flush=True)

    def kept(self) -> dict[str, Any]:
        """The figures of the run before; none when there was none."""
        try:
            found = json.loads(self._path.read_text())["figures"]
        except (OSError, ValueError, KeyError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def _path(self) -> Path:
        return RESULTS / f"{self.name}{'-quick' if QUICK else ''}.json"

    def save(self) -> None:
        """Write the results so far to benchmarks/results/NAME.json."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        content = {
            "benchmark": self.name,
            "quick": QUICK,
            "seconds": round(time.time() - self.started_at, 1),
            "machine": machine(),
            "versions": dict(self.versions),
            "bars": [asdict(bar) for bar in self.bars],
            "figures": self.figures,
            "notes": self.notes,
        }
        self._path.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ratio_of_rounds(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of rounds that ran one after the other: what slows both at once cancels out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
