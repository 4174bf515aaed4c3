"""What calls feel of a tuner at work: nothing. One service under calls at a fixed rate, in blocks of a few seconds.

In some blocks nothing is tuned; in some a replica tries other knobs and is told of still others every second, so that
sides are counted; in some the twin is also asked again and again, in its thread of the control plane as ever, but
without a pause. That takes a core, and on a small machine calls feel it whoever takes it; so in some blocks
nothing is tuned while a process beside the platform takes as much. Blocks take turns and begin anew in the other
order, so that a drift of the machine cancels out.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live import load as generator
from benchmarks.live.platform import READY_WITHIN_S, Platform, platform
from benchmarks.tune_live import roles
from kaon.sim.traffic import arrivals

ECHO = f"{Path(__file__).parent / 'apps' / 'echo.py'}:Echo"
REPLICAS, RPS, DEADLINE_S, LEAD_S, SEED = 4, 200.0, 5.0, 4.0, 3
OFF, TOLD, SEARCHING, BUSY = "off", "told", "told and searching", "off, a core busy"
STATES = (OFF, TOLD, SEARCHING, BUSY)
BESIDE = {TOLD: OFF, SEARCHING: BUSY, BUSY: OFF}
"""What each state is compared with: the same CPU left for calls."""
ORDER = (0, 1, 2, 3, 3, 2, 1, 0)
SETTLE_S = 0.6
"""What begins a block is the state before it."""


def measured(rounds: int, block_s: float) -> dict[str, Any]:
    """So many rounds of eight blocks."""
    blocks = [state for _ in range(rounds) for state in ORDER]
    seconds = len(blocks) * block_s
    calls = arrivals([RPS] * int(np.ceil(seconds)), SEED)
    calls = calls[calls < seconds * 1e9]
    with platform(partial(roles.start, times=1.0, restless=True)) as kaon:
        kaon.deploy("echo", REPLICAS, 0.0, ECHO)
        _awaited(kaon.settings.home / roles.DEEDS)
        latency_ns, answered = _played(kaon, calls, blocks, block_s)
        deeds = json.loads((kaon.settings.home / roles.DEEDS).read_text())
    return _told(latency_ns, calls, blocks, block_s, rounds) | {"generator": answered, "tuner": deeds}


def _awaited(path: Path) -> None:
    """Wait until the tuner has queried its twin once, so that everything is compiled."""
    give_up = time.monotonic() + READY_WITHIN_S
    while not path.exists():
        if time.monotonic() > give_up:
            raise SystemExit("the tuner's twin did not answer")
        time.sleep(0.1)


def _played(kaon: Platform, calls: Any, blocks: Sequence[int], block_s: float) -> tuple[Any, dict[str, Any]]:
    """The calls, while the tuner gets a request at the beginning of each block."""
    with tempfile.TemporaryDirectory(prefix="kaon-path-") as name:
        folder, start_at = Path(name), time.time() + LEAD_S
        generator.write(folder / "arrivals", calls)
        order = generator.Order(
            targets=(kaon.target("echo"),),
            arrivals=str(folder / "arrivals"),
            deadline_s=DEADLINE_S,
            start_at=start_at,
            scored_from_s=0.0,
            result=str(folder / "result"),
            each=str(folder),
        )
        (folder / "order").write_text(json.dumps(asdict(order)))
        running = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.live.load", str(folder / "order")], cwd=roles.ROOT
        )
        spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            wish = kaon.settings.home / roles.WISH
            for number, state in enumerate(blocks):
                time.sleep(max(0.0, start_at + number * block_s - time.time()))
                beside = wish.with_suffix(".new")
                beside.write_text(STATES[state])
                os.replace(beside, wish)
                spinning.send_signal(signal.SIGCONT if STATES[state] == BUSY else signal.SIGSTOP)
            wish.write_text(OFF)
            if running.wait() != 0:
                raise SystemExit(f"the load generator ended with {running.returncode}")
        finally:
            for process in (running, spinning):
                process.kill()
                process.wait()
        answered = json.loads((folder / "result").read_text())["echo"]
        latency_ns = np.frombuffer((folder / "echo.latency").read_bytes(), dtype=np.int64)
    return latency_ns, {key: value for key, value in answered.items() if key not in ("per_second", "scored")}


def _told(latency_ns: Any, calls: Any, blocks: Sequence[int], block_s: float, rounds: int) -> dict[str, Any]:
    """Quantiles by state, and their ratios to the state beside, with 95 % intervals over rounds."""
    by_round: list[list[Any]] = [[np.empty(0) for _ in STATES] for _ in range(rounds)]
    for number, state in enumerate(blocks):
        first, last = np.searchsorted(calls, ((number * block_s + SETTLE_S) * 1e9, (number + 1) * block_s * 1e9))
        place = by_round[number // len(ORDER)]
        place[state] = np.concatenate([place[state], latency_ns[first:last] / 1e6])
    found: dict[str, Any] = {"rounds": rounds, "block_s": block_s, "rps": RPS, "replicas": REPLICAS, "states": {}}
    for state, name in enumerate(STATES):
        all_ms = np.concatenate([x[state] for x in by_round])
        row = {f"p{round(100 * q)}_ms": round(float(np.quantile(all_ms, q)), 4) for q in (0.5, 0.9, 0.99)}
        row["calls"] = len(all_ms)
        for q in (0.5, 0.99) if name in BESIDE else ():
            row[f"p{round(100 * q)}_ratio"] = _ratio(by_round, state, STATES.index(BESIDE[name]), q)
            row[f"p{round(100 * q)}_over_off"] = _ratio(by_round, state, STATES.index(OFF), q)
        found["states"][name] = row
    return found


def _ratio(by_round: Sequence[Sequence[Any]], state: int, beside: int, q: float) -> tuple[float, float, float]:
    """A quantile over that of another state, and the 95 % interval of the ratio when rounds are drawn anew."""

    def of(rounds: Sequence[Sequence[Any]]) -> float:
        ours, usual = (np.quantile(np.concatenate([x[s] for x in rounds]), q) for s in (state, beside))
        return float(ours / usual)

    rng = random.Random(5)
    drawn = sorted(of(rng.choices(by_round, k=len(by_round))) for _ in range(400))
    return round(of(by_round), 4), round(drawn[10], 4), round(drawn[389], 4)
