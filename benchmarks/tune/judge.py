"""From cells to tables, and to the clauses of the claim: which hold, and on which loads not."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from benchmarks.report import Report
from benchmarks.tune.world import mean

GOAL = 0.99
REACTIVE = ("knative tuned", "ray-serve tuned", "hpa tuned", "sky-serve tuned")
LUCKIEST, BEST = "luckiest knobs in hindsight", "best knobs in hindsight"
"""Of each life, and of each load: the one is in part the luck of one life among many."""
NEEDED = ("ours", "untuned", LUCKIEST, "clairvoyant")
OTHERS = (
    *("ours", "ours, no trial", "ours, no trial, no gate", "ours, no control variate"),
    *("optuna in the twin", "optuna live", "live two-point", "live one-point", "untuned"),
)
"""The tuner, itself without a part, and other ways to tune: these are compared over all loads."""
HOUR = 60
"""Windows of an hour."""
Cell = dict[str, Any]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the 95 % bootstrap interval of it."""
    rng = random.Random(5)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(1000))
    return fmean(values), means[25], means[974]


def closed(untuned: list[float], ours: list[float], knowing: list[float]) -> tuple[float, float, float] | None:
    """The share of the gap from untuned to who knows the future that is closed, of mean losses, and its 95 % bootstrap
    interval; None where there is no gap to speak of."""
    rng = random.Random(5)
    draws = [range(len(ours)), *(rng.choices(range(len(ours)), k=len(ours)) for _ in range(1000))]
    means = [[fmean(losses[i] for i in draw) for losses in (untuned, ours, knowing)] for draw in draws]
    if any(a - c < 0.02 * a for a, _, c in means):
        return None
    shares = [(a - b) / (a - c) for a, b, c in means]
    return shares[0], sorted(shares)[25], sorted(shares)[974]


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


def hindsight(lucky: dict[int, Cell], seeds: list[int]) -> tuple[dict[str, float], dict[int, Cell]]:
    """The knobs with the least mean loss over all of these lives of a load, and their lives."""
    grids = {seed: lucky[seed]["told"]["grid"] for seed in seeds}
    numbers = range(len(grids[seeds[0]]))
    best = min(numbers, key=lambda number: fmean(grid[number]["score"]["loss"] for grid in grids.values()))
    return grids[seeds[0]][best]["knobs"], {seed: {"score": grid[best]["score"]} for seed, grid in grids.items()}


def over(ours: dict[int, Cell], others: dict[int, Cell], seeds: list[int]) -> list[float]:
    """By how much our loss is above the others' when the first hour is over, seed by seed."""
    spans = {s: slice(_hour(ours[s]), None) for s in seeds}
    return [
        mean(ours[s]["score"]["losses"][spans[s]]) / mean(others[s]["score"]["losses"][spans[s]]) - 1 for s in seeds
    ]


def share_bad(arm: dict[int, Cell], untuned: dict[int, Cell], seeds: list[int], tried: bool = False) -> list[float]:
    """Seed by seed, the share of minutes that are bad and are not so untuned; `tried`: of those in which something was
    being tried."""
    return [
        fmean(
            bad and not usual and (not tried or minute in arm[s]["told"]["tried"])
            for minute, (bad, usual) in enumerate(zip(arm[s]["score"]["bad"], untuned[s]["score"]["bad"], strict=True))
        )
        for s in seeds
    ]


def one(arms: dict[str, dict[int, Cell]]) -> dict[str, Any]:
    """A load's figures, over the seeds that the arms of the claim have; another arm's over those of them it has."""
    seeds = common(arms)
    knobs, best = hindsight(arms[LUCKIEST], seeds)
    arms = {**arms, BEST: best}
    ours, untuned = arms["ours"], arms["untuned"]
    rows: dict[str, dict[str, Any]] = {}
    for name, arm in arms.items():
        played = [arm[s]["score"] for s in seeds if s in arm]
        if played:
            figures = [figure for figure in played[0] if figure not in ("losses", "bad")]
            mine = [s for s in seeds if s in arm]
            above = [arm[s]["score"]["loss"] / ours[s]["score"]["loss"] - 1 for s in mine]
            rows[name] = {f: interval([score[f] for score in played]) for f in figures} | {"seeds": len(played)}
            rows[name] |= {"above_ours": interval(above), "above_ours_each": above}
            rows[name]["unsafe"] = fmean(share_bad(arm, untuned, mine))
            rows[name]["below_goal"] = fmean(score["later_attainment"] < GOAL for score in played)
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
    regret = [mean(ours[s]["score"]["losses"][:HOUR]) / mean(untuned[s]["score"]["losses"][:HOUR]) - 1 for s in seeds]
    after_hour = over(ours, best, seeds)
    times = [settled_s(ours[s]["score"], best[s]["score"]) for s in seeds]
    return {
        "seeds": seeds,
        "arms": rows,
        "rival": rival,
        "rival_reaches_goal": bool(good),
        "replica_seconds_saved": interval(saved),
        "loss_against_untuned": interval([ours[s]["score"]["loss"] / untuned[s]["score"]["loss"] - 1 for s in seeds]),
        "gap_to_clairvoyant_closed": closed(
            *([arm[s]["score"]["loss"] for s in seeds] for arm in (untuned, ours, arms["clairvoyant"]))
        ),
        "first_hour_regret": interval(regret),
        "unsafe_windows": interval(share_bad(ours, untuned, seeds)),
        "unsafe_windows_while_trying": interval(share_bad(ours, untuned, seeds, tried=True)),
        "unsafe_windows_of_hindsight": interval(share_bad(best, untuned, seeds)),
        "bad_windows": {
            name: fmean(fmean(arms[name][s]["score"]["bad"]) for s in seeds) for name in ("ours", "untuned", BEST)
        },
        "hindsight": knobs,
        "above_hindsight_after_an_hour": interval(after_hour),
        "above_luckiest_after_an_hour": interval(over(ours, arms[LUCKIEST], seeds)),
        "untuned_above_hindsight_after_an_hour": interval(over(untuned, best, seeds)),
        "settled_s": times,
        "distrusted": sum(ours[s]["told"].get("distrusted", 0) for s in seeds),
        "happened": [ours[s]["told"].get("happened", {}) for s in seeds],
        "trials": [trial for s in seeds for trial in ours[s]["told"].get("trials", [])],
        "replays": all(ours[s]["told"].get("replays", True) for s in seeds),
        "hour": fmean(after_hour) <= 0.05,
    }


def over_all(loads: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of arms that all loads have on as many seeds: loss above ours in the mean over loads, unsafe minutes, and the
    share of lives that end below the goal."""
    summary = {}
    for arm in OTHERS:
        rows = [found["arms"].get(arm, {"seeds": 0}) for found in loads.values()]
        if len({row["seeds"] for row in rows}) == 1 and rows[0]["seeds"]:
            means = [fmean(each) for each in zip(*(row["above_ours_each"] for row in rows), strict=True)]
            summary[arm] = {"seeds": rows[0]["seeds"], "above_ours": interval(means)}
            summary[arm] |= {name: fmean(row[name] for row in rows) for name in ("unsafe", "below_goal")}
    return summary


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


def judge(report: Report, cells: list[Cell], again: Sequence[Cell] = ()) -> None:
    """Tables, bars, and the clauses; `again`: some of the cells, played once more, each with nothing beside it."""
    loads = {}
    for name, arms in table(cells).items():
        if common(arms):
            loads[name] = one(arms)
            show(name, loads[name])
    if loads:
        clauses(report, loads)
        replayed(report, cells, again)
    else:
        report.note("no load has all arms yet")


def clauses(report: Report, loads: dict[str, dict[str, Any]]) -> None:
    """Bars, and the clauses of the claim: which hold, load by load. `loads` is what `one` makes of each."""
    report.figures["loads"], report.figures["over_all"] = loads, over_all(loads)
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
    lucky = [f["above_luckiest_after_an_hour"][0] <= 0.05 for f in found]
    report.at_least("share_of_loads_within_5_percent_of_the_luckiest_in_an_hour", fmean(lucky), 0.8)
    report.at_most("first_hour_regret_mean", fmean(f["first_hour_regret"][0] for f in found), 0.02)
    report.at_most("unsafe_windows_mean", fmean(f["unsafe_windows"][0] for f in found), 0.005)
    trying = fmean(f["unsafe_windows_while_trying"][0] for f in found)
    report.at_most("unsafe_windows_while_trying_mean", trying, 0.005)
    report.at_most("loss_of_ours_over_untuned", 1 + fmean(f["loss_against_untuned"][0] for f in found), 1.0)
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


def replayed(report: Report, cells: list[Cell], again: Sequence[Cell]) -> None:
    """Bars: what a search costs where nothing of the benchmark runs beside it, and whether lives come out as kept."""
    if not again:
        return
    kept = {(cell["load"], cell["seed"], cell["arm"]): cell["score"] for cell in cells}
    spent = sorted(x for cell in again for x in cell["told"]["epoch_cpu_s"])
    report.figures["searches_cpu_s"] = {cell["load"]: cell["told"]["epoch_cpu_s"] for cell in again}
    report.at_most("epoch_cpu_s_median", spent[len(spent) // 2], 2.0)
    report.at_most("epoch_cpu_s_p90", spent[int(0.9 * (len(spent) - 1))], 2.0)
    alike = [cell["score"] == kept[cell["load"], cell["seed"], cell["arm"]] for cell in again]
    report.at_least("lives_that_come_out_as_kept", fmean(alike), 1.0)
