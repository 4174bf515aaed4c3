"""Loads: calls per second, second by second, scaled to one size; the first part is for tuning, the rest counts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

from kaon.sim import trace

MEAN_RPS = 250.0
"""Some twelve replicas of the simulated service."""
BUSY_RPS = 1500.0
"""At most so many in the second that only one call in a hundred finds busier: some fifty replicas."""
DAY_S = 1800
"""A day of a trace of minutes becomes half an hour."""


@dataclass(frozen=True)
class Load:
    name: str
    rates: tuple[float, ...]
    scored_from_s: float
    """What is before is for tuning, a whole number of minutes."""

    @property
    def span_s(self) -> int:
        return len(self.rates)


def _scaled(name: str, rates: list[float], tune_share: float) -> Load:
    total, so_far = sum(rates), 0.0
    for busy in sorted(rates):
        so_far += busy
        if so_far >= 0.99 * total:
            break
    scale = min(MEAN_RPS / (total / len(rates)), BUSY_RPS / busy)
    return Load(name, tuple(r * scale for r in rates), 60.0 * round(len(rates) * tune_share / 60))


def read(folder: Path, most_days: int = 2) -> list[Load]:
    """Every trace of a folder; one of long steps is made so much shorter that a day of it is `DAY_S`."""
    loads = []
    for path in sorted(folder.glob("*.csv")):
        found = trace.read(path)
        name = path.stem.removesuffix("_per_s").removesuffix("_10min")
        if found.step_s == 1:
            loads.append(_scaled(name, list(found.rates), 1 / 3))
            continue
        a_day = round(86_400 / found.step_s)
        days = min(most_days, len(found.rates) // a_day)
        rates = trace.per_second(found.rates[: days * a_day], DAY_S / a_day)
        loads.append(_scaled(name, rates, 1 / days if days > 1 else 1 / 3))
    return loads


def generated(seconds: int) -> list[Load]:
    """Loads made here, alike in kind: smooth, with a day in it, noisy, and in bursts shorter than a start."""
    rng = random.Random(7)
    at = range(seconds)
    day = [1 + 0.6 * math.sin(2 * math.pi * t * 2 / seconds) for t in at]
    noisy, level = [], 1.0
    for _ in at:
        level += 0.05 * (1 - level) + rng.gauss(0, 0.06)
        noisy.append(max(0.1, level))
    bursts, left = [], 0
    for _ in at:
        if left == 0 and rng.random() < 1 / 45:
            left = rng.randint(4, 12)
        bursts.append(4.0 if left else 0.6)
        left = max(0, left - 1)
    steps = [0.6 if (t // 300) % 2 else 1.4 for t in at]
    named = {"smooth": [1.0] * seconds, "day": day, "noisy": noisy, "bursts": bursts, "steps": steps}
    return [_scaled(name, rates, 1 / 3) for name, rates in named.items()]
