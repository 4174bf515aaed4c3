"""How rarely a canary's test cries wolf, how many calls it needs, what a look costs; `picture` draws its evidence."""

from __future__ import annotations

import math
import random
import sys
import time
from pathlib import Path

from benchmarks.report import QUICK, Report, median
from kaon.laws.canary import LEVEL
from kaon.laws.sequential import Counts, SequentialVerdict, compare
from kaon.sim.picture import BLUE, GREY, ORANGE, picture

STEPS, MARGIN, OLD_FAILS = 3, 0.01, 0.001
AT = LEVEL / (2 * STEPS)
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "canary-evidence.svg"


def told(
    fails: float, share: float, seconds: int, seed: int, level: float, old: float
) -> tuple[int | None, list[float]]:
    """New calls until it is called worse (None: never), and the odds at each second; 200 calls a second in all."""
    rng = random.Random(seed)
    new, bad, other, other_bad, odds = 0, 0, 0, 0, []
    for _ in range(seconds):
        for _ in range(200):
            if rng.random() < share:
                new, bad = new + 1, bad + (rng.random() < fails)
            else:
                other, other_bad = other + 1, other_bad + (rng.random() < old)
        compared = compare(Counts(new, bad), Counts(other, other_bad), MARGIN, level)
        odds.append(compared.odds if compared.leans is SequentialVerdict.WORSE else 1.0)
        if compared.verdict is SequentialVerdict.WORSE:
            return new, odds
    return None, odds


def naive(seconds: int, seed: int) -> bool:
    """Whether a test for one look, at 5 % and repeated every second, calls an equal one worse."""
    rng, a, b, n = random.Random(seed), 0, 0, 0
    for _ in range(seconds):
        n += 100
        a += sum(rng.random() < 0.02 for _ in range(100))
        b += sum(rng.random() < 0.02 for _ in range(100))
        pooled = (a + b) / (2 * n)
        if pooled and (a - b) / n > 1.645 * math.sqrt(2 * pooled * (1 - pooled) / n):
            return True
    return False


def main() -> None:
    report = Report("canary")
    runs, seconds = (60, 100) if QUICK else (200, 600)
    for share in (0.05, 0.5):
        wrong = sum(told(0.011, share, seconds, seed, LEVEL, OLD_FAILS)[0] is not None for seed in range(runs))
        report.at_most(f"false-alarms-at-the-edge-share-{share:g}", wrong / runs, LEVEL)
    equal = sum(told(0.02, 0.5, seconds, seed, LEVEL, 0.02)[0] is not None for seed in range(runs))
    report.at_most("false-alarms-of-an-equal-one", equal / runs, LEVEL)
    report.figures["one-look test, asked every second"] = sum(naive(seconds, s) for s in range(runs)) / runs
    for fails, goal in ((1.0, 20), (0.3, 30), (0.1, 100), (0.05, 500), (0.03, 2000)):
        found = [told(fails, 0.05, 300, seed, AT, OLD_FAILS)[0] for seed in range(10 if QUICK else 40)]
        calls = median([n if n is not None else math.inf for n in found])
        report.at_most(f"calls-until-found-{100 * fails:g}%", calls, goal)
    began = time.perf_counter()
    for number in range(2000):
        compare(Counts(1000 + number, 12), Counts(20_000, 30), MARGIN)
    report.at_most("look-us", (time.perf_counter() - began) / 2000 * 1e6, 200)
    report.finish()


def draw() -> None:
    """Evidence over two minutes at 5 % of 200 calls a second."""
    series = {"sure": ([math.log10(1 / AT)] * 120, GREY)}
    for fails, colour in ((0.1, ORANGE), (0.05, "#a04060"), (0.03, "#60a040"), (0.001, BLUE)):
        _, odds = told(fails, 0.05, 120, 7, 1e-9, OLD_FAILS)
        odds += odds[-1:] * (120 - len(odds))
        series[f"fails in {100 * fails:g} %"] = ([min(6.0, math.log10(o)) for o in odds], colour)
    title = "the evidence that a revision is worse, in powers of ten"
    PICTURE.write_text(picture(title, series, 120, below=f"{title}; 2 minutes"), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    draw() if sys.argv[1:] == ["picture"] else main()
