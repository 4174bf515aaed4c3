"""Scaling laws on the real platform: `make bench-live`, `TRACES=DIR` for real loads, `QUICK=1` for a minute.

Deployments of one service stand beside each other on one platform, each scaled by another law, one not at all, and get
the same calls; the simulator is asked what it would have said; then Ray Serve itself gets one of the loads.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from benchmarks import peers
from benchmarks.live import ray, server, validation
from benchmarks.live.apps.sleeper import OBJECTIVE
from benchmarks.live.arms import (
    FIXED,
    FIXED_REPLICAS,
    LAWS,
    LOAD_S,
    MOST,
    SECONDS,
    SERVES_RPS,
    TIMES,
    WARM_S,
    Arm,
    first_replicas,
    measured,
    side_by_side,
)
from benchmarks.live.census import of_ray
from benchmarks.live.loads import Load, chosen
from benchmarks.live.platform import platform
from benchmarks.live.quickened import LawName
from benchmarks.report import QUICK, Bar, Report

GOAL = OBJECTIVE.completion
WITHIN = 0.1


def main() -> None:
    """The whole benchmark."""
    report = Report("live", {name: version(name) for name in ("kaon", "uvloop", "httptools")})
    loads = chosen(os.environ.get("TRACES"), SECONDS, most=1 if QUICK else 3)
    report.figures["setting"] = {
        "seconds": SECONDS,
        "scored_from_s": WARM_S,
        "law_seconds_per_second": TIMES,
        "loading_s": LOAD_S,
        "deadline_s": OBJECTIVE.patience_s,
        "replica_serves_rps": SERVES_RPS,
    }
    results: dict[str, dict[str, Arm]] = {}
    errors: dict[str, dict[str, float]] = {}
    with platform(partial(server.start, times=TIMES)) as kaon:
        for load in loads:
            results[load.name] = side_by_side(kaon, load, LAWS)
            _show(load, results[load.name])
            errors[load.name] = _simulated(report, load, results[load.name])
            _keep(report, results)
    if not QUICK:
        results[loads[0].name] |= _ray_itself(report, loads[0])
        _show(loads[0], results[loads[0].name])
        _keep(report, results)
    _judge(report, results)
    _judge_simulator(report, errors)
    report.finish()


def _simulated(report: Report, load: Load, arms: dict[str, Arm]) -> dict[str, float]:
    """The same in the simulator; what it is off by, relative, in the median."""
    checks = {}
    for name, arm in arms.items():
        if name == FIXED:
            validated = validation.of_fixed(FIXED_REPLICAS, load)
        else:
            validated = validation.of_law(LawName(name), load, first_replicas(load))
        checks[name] = validation.compared(arm, validated)
        print(f"  {name}, simulated: {validated}", flush=True)
    report.figures.setdefault("simulated", {})[load.name] = checks
    return {name: x["p50_relative_error"] for name, x in checks.items()}


def _ray_itself(report: Report, load: Load) -> dict[str, Arm]:
    """Ray Serve on this machine, in the place of the platform."""
    arms = {}
    for name, options in ray.ARMS.items():
        config = options(MOST, TIMES)
        config["autoscaling_config"]["initial_replicas"] = first_replicas(load)
        with ray.serving(config, LOAD_S, TIMES) as target:
            arms[name] = measured([target], load, of_ray)[target.name]
    report.figures["ray_versions"] = peers.versions("ray")
    return arms


def _show(load: Load, arms: dict[str, Arm]) -> None:
    print(f"\n{load.name}: {SECONDS - WARM_S} s scored, {load.times:g} s of the trace in one")
    print("| arm | in deadline % | mean replicas | p50 s | p99 s | lost | shed |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, arm in sorted(arms.items(), key=lambda x: x[1].replica_seconds):
        print(
            f"| {name} | {100 * arm.attainment:.2f} | {arm.mean_replicas:.2f} | {arm.p50_s:.3f} | {arm.p99_s:.3f} "
            f"| {arm.lost} | {arm.shed} |",
            flush=True,
        )


def _keep(report: Report, results: dict[str, dict[str, Arm]]) -> None:
    report.figures["loads"] = {name: {arm: _told(x) for arm, x in arms.items()} for name, arms in results.items()}
    report.save()


def _told(arm: Arm) -> dict[str, Any]:
    return asdict(arm) | {"mean_replicas": round(arm.mean_replicas, 3)}


def _judge(report: Report, results: dict[str, dict[str, Arm]]) -> None:
    """At >= 99 % in time, no more replica-seconds than each rival; where a rival misses that, no lower attainment."""
    for load, arms in results.items():
        ours = arms[LawName.KAON.value]
        report.at_least(f"{load}_attainment", ours.attainment, GOAL)
        report.at_most(f"{load}_lost", ours.lost, 0)
        for name, theirs in arms.items():
            if theirs is ours or name == FIXED:
                continue
            ratio = ours.replica_seconds / max(theirs.replica_seconds, 1e-9)
            if theirs.attainment >= GOAL:
                ok = ratio <= 1 and ours.attainment >= GOAL
                report.bars.append(Bar(f"{load}_replica_seconds_over_{name}", round(ratio, 4), 1, ok))
            else:
                report.at_least(f"{load}_attainment_over_{name}", ours.attainment / max(theirs.attainment, 1e-9), 1)
                report.note(
                    f"{load}: {name} answered {100 * theirs.attainment:.2f} % in time, below the goal; "
                    f"kaon's replica-seconds over its are {ratio:.2f}"
                )
        for name, arm in arms.items():
            if not arm.load["honest"]:
                report.note(
                    f"{load}, {name}: the load generator was late by {arm.load['lateness_p99_s'] * 1000:.0f} ms (p99) "
                    f"or short of connections ({arm.load['waited_for_a_connection']} calls waited for one)"
                )


def _judge_simulator(report: Report, errors: dict[str, dict[str, float]]) -> None:
    """Its median for a fixed number and for our law; of laws that swing, a small difference makes another run."""
    for name in (FIXED, LawName.KAON.value):
        worst = max(errors[load][name] for load in errors)
        report.at_most(f"simulated_p50_relative_error_{name}", worst, WITHIN)
    others = {f"{load} {name}": error for load, x in errors.items() for name, error in x.items()}
    worst = max(others, key=lambda name: others[name])
    report.note(f"the simulator's median is off the most on {worst}: by {100 * others[worst]:.0f} %")


if __name__ == "__main__":
    main()
