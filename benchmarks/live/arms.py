"""What competes live, how a run of it is made, and what is kept of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.live import load as generator
from benchmarks.live.apps.sleeper import A_S, B_S, MAX_BATCH, OBJECTIVE
from benchmarks.live.census import Census, Named
from benchmarks.live.connections import Target
from benchmarks.live.loads import Load
from benchmarks.live.platform import Platform
from benchmarks.live.quickened import LawName
from benchmarks.live.server import ROOT
from benchmarks.report import QUICK

SERVES_RPS = MAX_BATCH / (A_S * MAX_BATCH + B_S)
LOAD_S = 5.0
"""What a replica loads before it is ready."""
TIMES = 4.0
"""Seconds of a law in one of the clock: starts take it twenty."""
MOST = 24
SECONDS, WARM_S = (30, 10) if QUICK else (180, 45)
FIXED, FIXED_REPLICAS = "fixed", 8
"""The fixed number of replicas that is measured beside the laws."""
LET_GO_S = 2.0 if QUICK else 5.0
"""So long laws only look: as many replicas as the first calls need are there."""
LAWS = (LawName.KAON, LawName.KNATIVE) if QUICK else (LawName.KAON, LawName.KNATIVE, LawName.RAY_SERVE)


@dataclass(frozen=True)
class Arm:
    """What one contender did with one load. Latencies are over the scored part: what came after the warm-up."""

    calls: int
    attainment: float
    p50_s: float
    p90_s: float
    p99_s: float
    lost: int
    """Calls that failed, or got no answer though their caller still waited. Refused and late ones are not lost."""
    shed: int
    replica_seconds: float
    replicas: list[int]
    load: dict[str, Any]
    """The output of the load generator."""

    @property
    def mean_replicas(self) -> float:
        return self.replica_seconds / (SECONDS - WARM_S)


def first_replicas(load: Load) -> int:
    """As many as the first seconds need, so that no arm begins with a queue."""
    first = load.rates[: int(10 * load.times)]
    return math.ceil(1.6 * sum(first) / len(first) / SERVES_RPS)


def side_by_side(platform: Platform, load: Load, laws: Sequence[LawName]) -> dict[str, Arm]:
    """Every law's deployment at the same time, under the same calls: what disturbs the machine disturbs all."""
    replicas = {law.value: first_replicas(load) for law in laws} | {FIXED: FIXED_REPLICAS}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: platform.deploy(name, replicas[name], LOAD_S), replicas))

    def let_go() -> None:
        for law in laws:
            platform.bound(law.value, {"min": 1, "max": MOST})

    arms = measured([platform.target(name) for name in replicas], load, platform.census(), let_go)
    with ThreadPoolExecutor() as pool:
        list(pool.map(platform.remove, replicas))
    return arms


def measured(
    targets: Sequence[Target], load: Load, named: Named, let_go: Callable[[], None] = lambda: None
) -> dict[str, Arm]:
    """Let the calls of `load` come to each target, and count. `let_go` is called when they have come for a while."""
    arrivals_ns = load.arrivals_ns()
    with tempfile.TemporaryDirectory(prefix="kaon-live-") as name, Census(named) as census:
        folder = Path(name)
        generator.write(folder / "arrivals", arrivals_ns)
        patience_s, start_at = OBJECTIVE.patience_s, time.time() + 2.0
        files = str(folder / "arrivals"), str(folder / "result.json")
        order = generator.Order(tuple(targets), files[0], patience_s, start_at, WARM_S, files[1])
        (folder / "order.json").write_text(json.dumps(asdict(order)))
        psutil.cpu_percent()
        timer = threading.Timer(start_at + LET_GO_S - time.time(), let_go)
        timer.start()
        subprocess.run([sys.executable, "-m", "benchmarks.live.load", str(folder / "order.json")], cwd=ROOT, check=True)
        timer.join()
        machine = psutil.cpu_percent() / 100
        result = json.loads((folder / "result.json").read_text())
    return {target.name: _arm(result[target.name], census, target.name, start_at, machine) for target in targets}


def _arm(result: dict[str, Any], census: Census, name: str, start_at: float, machine: float) -> Arm:
    scored = result.pop("scored")
    return Arm(
        calls=scored["calls"],
        attainment=scored["ok"] / max(1, scored["calls"]),
        p50_s=scored["p50_s"],
        p90_s=scored["p90_s"],
        p99_s=scored["p99_s"],
        lost=scored["failed"] + scored["broken"] + scored["pending"],
        shed=scored["shed"],
        replica_seconds=census.replica_seconds(name, start_at + WARM_S, start_at + SECONDS),
        replicas=census.series(name, start_at, SECONDS),
        load=result | {"machine_busy": machine},
    )
