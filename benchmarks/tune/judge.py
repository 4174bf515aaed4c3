"""From cells to tables, and to the clauses of the claim: which hold, and on which loads not."""

from __future__ import annotations

import random
from collections import defaultdict
from statistics import fmean
from typing import Any

from benchmarks.report import Report
from benchmarks.tune.world import mean

GOAL = 0.99
REACTIVE = ("knative tuned", "ray-serve tuned", "hpa tuned", "sky-serve tuned")
NEEDED = ("ours", "untuned", "best knobs in hindsight", "clairvoyant")
HOUR = 60
"""Windows of an hour."""
Cell = dict[str, Any]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the 95 % bootstrap interval of it."""
    dice = random.Random(5)
    means = sorted(fmean(dice.choices(values, k=len(values))) for _ in range(1000))
    return fmean(values), means[25], means[974]


def table(cells: list[Cell]) -> dict[str, dict[str, dict[int, Cell]]]:
    """Load -> arm -> seed -> cell."""
    out: dict[str, dict[str, dict[int, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        out[cell["load"]][cell["arm"]][cell["seed"]] = cell
    return out


def common(arms: dict[str, dict[int, Cell]]) -> list[int]:
    """The seeds that all arms of the claim have; none if one of these is missing."""
    rivals = [name for name in REACTIVE if name in arms]
    return sorted(set.intersection(*(set(arms.get(name, {})) for name in (*NEEDED, *rivals)))) if rivals else []


def settled_s(ours: dict[str, Any], hindsight: dict[str, Any]) -> float | None:
    """From when on the loss, in the mean of all that is left, is within 5 % of that of the best knobs in hindsight;
    None: never, or only in the last ten minutes."""
    pairs = list(zip(ours["losses"], hindsight["losses"], strict=False))
    ahead, found = 0.0, None
    for i in range(len(pairs) - 1, -1, -1):
        if pairs[i][0] is None:
            continue
        ahead += pairs[i][0] - 1.05 * pairs[i][1]
        if ahead > 0 and i < len(pairs) - 10:
            break
        found = 60.0 * i if i <= len(pairs) - 10 else None
    return found


def one(arms: dict[str, dict[int, Cell]]) -> dict[str, Any]:
    """A load's figures, over the seeds that the arms of the claim have; another arm's over those of them it has."""
    seeds = common(arms)
    rows = {}
    for name, arm in arms.items():
        played = [arm[s]["score"] for s in seeds if s in arm]
        if played:
            figures = [figure for figure in played[0] if figure not in ("losses", "bad")]
            rows[name] = {f: interval([score[f] for score in played]) for f in figures} | {"seeds": len(played)}
    ours, untuned, best = arms["ours"], arms["untuned"], arms["best knobs in hindsight"]
    rivals = [n for n in REACTIVE if n in arms]
    good = [n for n in rivals if rows[n]["later_attainment"][0] >= GOAL]
    rival = (
        min(good, key=lambda n: rows[n]["later_replica_seconds"][0])
        if good
        else max(rivals, key=lambda n: rows[n]["later_attainment"][0])
    )
    saved = [
        1 - ours[s]["score"]["later_replica_seconds"] / arms[rival][s]["score"]["later_replica_seconds"] for s in seeds
    ]
    gap = [
        (untuned[s]["score"]["loss"] - ours[s]["score"]["loss"])
        / max(untuned[s]["score"]["loss"] - arms["clairvoyant"][s]["score"]["loss"], 1e-9)
        for s in seeds
    ]
    regret = [mean(ours[s]["score"]["losses"][:HOUR]) / mean(untuned[s]["score"]["losses"][:HOUR]) - 1 for s in seeds]
    unsafe = [
        fmean(a and not b for a, b in zip(ours[s]["score"]["bad"], untuned[s]["score"]["bad"], strict=True))
        for s in seeds
    ]
    after_hour = [
        mean(ours[s]["score"]["losses"][_hour(ours[s]) :]) / mean(best[s]["score"]["losses"][_hour(ours[s]) :]) - 1
        for s in seeds
    ]
    times = [settled_s(ours[s]["score"], best[s]["score"]) for s in seeds]
    return {
        "seeds": seeds,
        "arms": rows,
        "rival": rival,
        "rival_reaches_goal": bool(good),
        "replica_seconds_saved": interval(saved),
        "loss_against_untuned": interval([ours[s]["score"]["loss"] / untuned[s]["score"]["loss"] - 1 for s in seeds]),
        "gap_to_clairvoyant_closed": interval(gap),
        "first_hour_regret": interval(regret),
        "unsafe_windows": interval(unsafe),
        "above_hindsight_after_an_hour": interval(after_hour),
        "settled_s": times,
        "epoch_cpu_s": [x for s in seeds for x in ours[s]["told"].get("epoch_cpu_s", [])],
        "distrusted": sum(ours[s]["told"].get("distrusted", 0) for s in seeds),
        "happened": [ours[s]["told"].get("happened", {}) for s in seeds],
        "trials": [trial for s in seeds for trial in ours[s]["told"].get("trials", [])],
        "replays": all(ours[s]["told"].get("replays", True) for s in seeds),
        "hour": fmean(after_hour) <= 0.05,
    }


def _hour(cell: Cell) -> int:
    """The window from which on the rest is judged: an hour, or half of a shorter life."""
    return min(HOUR, len(cell["score"]["losses"]) // 2)


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: {len(found['seeds'])} seeds; loss from the first second, the rest after day 1")
    print("| arm | loss (95 %) | later loss | in time % | replica-s | p99 s | worst 5 min burn |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for arm, row in sorted(found["arms"].items(), key=lambda x: x[1]["loss"][0]):
        low, high = row["loss"][1:]
        print(
            f"| {arm} | {row['loss'][0]:.3f} ({low:.3f}-{high:.3f}) | {row['later_loss'][0]:.3f} "
            f"| {100 * row['later_attainment'][0]:.2f} | {row['later_replica_seconds'][0]:.0f} "
            f"| {row['p99_s'][0]:.2f} | {row['worst_burn_5min'][0]:.1f} |",
            flush=True,
        )


def judge(report: Report, cells: list[Cell]) -> None:
    """Tables, bars, and the clauses."""
    loads = {}
    for name, arms in table(cells).items():
        if common(arms):
            loads[name] = one(arms)
            show(name, loads[name])
    if not loads:
        report.note("no load has all arms yet")
        return
    report.figures["loads"] = loads
    found = list(loads.values())
    won = {
        n: f["replica_seconds_saved"][0] >= 0.15
        and f["arms"]["ours"]["later_attainment"][0] >= GOAL
        and f["arms"]["ours"]["later_attainment"][0] >= min(f["arms"][f["rival"]]["later_attainment"][0], GOAL)
        for n, f in loads.items()
    }
    for name, f in loads.items():
        f["won"] = won[name]
    report.at_least("share_of_loads_15_percent_fewer_replica_seconds", fmean(won.values()), 0.8)
    report.at_least("share_of_loads_within_5_percent_of_hindsight_in_an_hour", fmean(f["hour"] for f in found), 0.8)
    report.at_most("first_hour_regret_mean", fmean(f["first_hour_regret"][0] for f in found), 0.02)
    report.at_most("unsafe_windows_mean", fmean(f["unsafe_windows"][0] for f in found), 0.005)
    report.at_most("loss_of_ours_over_untuned", 1 + fmean(f["loss_against_untuned"][0] for f in found), 1.0)
    spent = sorted(x for f in found for x in f["epoch_cpu_s"])
    if spent:
        report.at_most("epoch_cpu_s_median", spent[len(spent) // 2], 2.0)
        report.at_most("epoch_cpu_s_p90", spent[int(0.9 * (len(spent) - 1))], 2.0)
    report.at_least("records_that_replay", fmean(f["replays"] for f in found), 1.0)
    print("\nclauses of the claim, load by load:")
    for name, f in loads.items():
        rival = f["rival"] + ("" if f["rival_reaches_goal"] else " (which misses the goal)")
        print(
            f"  {'won ' if won[name] else 'LOST'} {name}: {f['replica_seconds_saved'][0]:+.1%} replica-seconds saved "
            f"against {rival}, {100 * f['arms']['ours']['later_attainment'][0]:.2f} % in time; "
            f"loss {f['loss_against_untuned'][0]:+.1%} against untuned, "
            f"{f['above_hindsight_after_an_hour'][0]:+.1%} against hindsight; "
            f"first hour {f['first_hour_regret'][0]:+.1%}; unsafe {f['unsafe_windows'][0]:.2%}"
        )
