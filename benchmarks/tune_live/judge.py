"""From parts to tables and bars."""

from __future__ import annotations

from typing import Any

from benchmarks.report import Report
from benchmarks.tune_live.before_after import FOUND, TUNED, UNTUNED
from benchmarks.tune_live.request_path import BUSY, SEARCHING, TOLD

HALVES = ("whole", "later")


def show(part: str, told: dict[str, Any]) -> None:
    """Its table."""
    if "states" in told:
        show_path(told)
    for load, arms in told.get("loads", {}).items():
        print(f"\n{part}, {load}; the machine was {max(told['machine_busy']):.0%} busy")
        print("| arm | part | loss | in time % | replica-s | busy % | p50 s | p99 s | lost | shed | unsafe |")
        print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
        for arm, x in arms.items():
            for half in HALVES:
                y = x[half]
                print(
                    f"| {arm} | {half} | {y['loss']:.3f} | {100 * y['attainment']:.2f} | {y['replica_seconds']:.0f} "
                    f"| {100 * y['busy']:.0f} | {y['p50_s']:.2f} | {y['p99_s']:.2f} | {y['lost']} | {y['shed']} "
                    f"| {sum(x['unsafe'])} |",
                    flush=True,
                )
            late = x["generator"]["lateness_p99_s"]
            print(f"  {arm}: {x['tuner']['epochs']} epochs, {x['tuner']['values']}; calls late by {1000 * late:.1f} ms")
            for entry in x["tuner"]["said"]:
                print(f"    {entry['before']} -> {entry['after']}: {entry['reason']}")


def show_path(told: dict[str, Any]) -> None:
    """What calls felt by state."""
    print(f"\n{told['rps']:.0f} calls/s on {told['replicas']} replicas; {told['tuner']}")
    print(
        "| state | calls | p50 ms | p90 ms | p99 ms | p50 ratio (95 %) | p99 ratio (95 %) |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for name, x in told["states"].items():
        ratios = (x.get(f"p{q}_ratio", (1.0, 1.0, 1.0)) for q in (50, 99))
        cells = " | ".join(f"{ratio:.3f} ({low:.3f}-{high:.3f})" for ratio, low, high in ratios)
        row = f"| {name} | {x['calls']} | {x['p50_ms']:.2f} | {x['p90_ms']:.2f} | {x['p99_ms']:.2f} | {cells} |"
        print(row, flush=True)


def judge(report: Report, done: dict[str, Any]) -> None:
    """The bars, as far as parts are done."""
    for load, arms in done.get("tuned", {}).get("loads", {}).items():
        before, after = arms[UNTUNED], arms[TUNED]
        report.at_most(f"{load}_loss_while_tuning", after["whole"]["loss"] / before["whole"]["loss"], 1.02)
        report.at_most(f"{load}_unsafe_windows", unsafe(before, after), 0.005)
        report.at_most(f"{load}_lost", after["whole"]["lost"], 0)
        if after["tuner"]["records"]:
            report.at_least(f"{load}_records_that_replay", after["tuner"]["replayed"] / after["tuner"]["records"], 1.0)
    for load, arms in done.get("found", {}).get("loads", {}).items():
        before, after = arms[UNTUNED], arms[FOUND]
        report.at_most(f"{load}_loss_with_what_was_found", after["whole"]["loss"] / before["whole"]["loss"], 1.0)
    for arms in done.get("model", {}).get("loads", {}).values():
        before = arms[UNTUNED]
        for half, name in (("whole", "while_tuning"), ("later", "of_the_second_half")):
            report.at_most(f"minilm_loss_{name}", arms[TUNED][half]["loss"] / before[half]["loss"], 1.02)
        report.at_most("minilm_unsafe_windows", unsafe(before, arms[TUNED]), 0.005)
    if "path" in done:
        judge_path(report, done["path"])


def judge_path(report: Report, told: dict[str, Any]) -> None:
    """No added latency where as much CPU is left for calls."""
    for state, name in ((TOLD, "told"), (SEARCHING, "searching")):
        x = told["states"][state]
        report.at_most(f"p50_while_{name}", x["p50_ratio"][0], 1.02)
        report.at_most(f"p99_while_{name}", x["p99_ratio"][0], 1.1)
    for state in (SEARCHING, BUSY):
        x = told["states"][state]
        p50, p99 = x["p50_over_off"][0], x["p99_over_off"][0]
        report.note(f"{state}, beside nothing tuned: p50 {p50:.2f} times, p99 {p99:.2f} times as long")
    search_s = told["tuner"]["search_cpu_s"]
    report.note(f"a search takes {search_s:.1f} s of a processor; it is due once in five minutes, not again and again")


def unsafe(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The share of windows in which the budget burnt over twice as fast as it lasts, and did not beside."""
    pairs = list(zip(before["unsafe"], after["unsafe"], strict=True))
    return sum(now and not then for then, now in pairs) / len(pairs)
