"""The parts of the benchmark, and what each is played with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import batching, peers
from benchmarks.live.loads import MEAN_RPS
from benchmarks.report import QUICK
from benchmarks.tune_live import before_after, request_path
from benchmarks.tune_live.apps.embedder import OBJECTIVE as EMBEDDER_OBJECTIVE
from benchmarks.tune_live.apps.sleeper import A_S, B_S, OBJECTIVE
from benchmarks.tune_live.before_after import Setting
from benchmarks.tune_live.loads import chosen, times_as_many
from benchmarks.tune_live.match import Service

APPS = Path(__file__).parent / "apps"
TIMES = 2 ** (18 / 4) if QUICK else 2 ** (13 / 4)
"""A root of two, so that no bucket of a latency histogram is split: 9.5. A replica's start costs the machine the same
at any pace, so a faster one would leave too little of two cores for calls."""
SECONDS = 40 if QUICK else 520
"""A quarter of an hour of the tuner's, or 82 minutes."""
USUAL = 8
MOST, MEAN_SHARE = 20, 1.5
"""Replicas at most, and how many times the calls that a load of `bench-live` has: seven replicas in the mean, so that
one that starts is no more than usual, and calls enough in the quietest minutes. Two such deployments fill two cores."""

MODEL_TIMES = 2.0**5 if QUICK else 2.0**4
MODEL_SECONDS, MODEL_RPS = (30, 60.0) if QUICK else (180, 90.0)
TEXT = "where is the parcel that I ordered on Monday"
ALONE_S = 0.005
"""What a call costs that MiniLM answers by itself, about."""

SLEEPER = Service(f"{APPS / 'sleeper.py'}:Sleeper", OBJECTIVE, 2.0, MOST, '{"rows": [1]}')


def sleeper() -> Setting:
    """The service of known cost, on three loads at once."""
    full_s = A_S * USUAL + B_S
    loads = chosen(os.environ.get("TRACES"), SECONDS, TIMES, most=1 if QUICK else 3)
    return Setting(
        service=SLEEPER,
        loads=[times_as_many(load, MEAN_SHARE) for load in loads],
        times=TIMES,
        usual={"max_batch": float(USUAL)},
        serves_rps=USUAL / full_s,
        reference_s=full_s / USUAL,
    )


def embedder() -> Setting:
    """MiniLM on the processor, batch by batch of one text until somebody says more; two cores carry two replicas.

    Its arms take turns: side by side each would slow the other's model down.
    """
    if peers.python_of("minilm") is None:
        raise SystemExit("MiniLM's environment is not installed: run it once without QUICK")
    load = times_as_many(chosen(os.environ.get("TRACES"), MODEL_SECONDS, MODEL_TIMES, most=1)[0], MODEL_RPS / MEAN_RPS)
    env = (f"APPS={Path(batching.__file__).parent / 'apps'}",)
    service = Service(
        f"{APPS / 'embedder.py'}:Embedder", EMBEDDER_OBJECTIVE, 0.0, 3, json.dumps({"texts": [TEXT]}), env
    )
    return Setting(service, (load,), MODEL_TIMES, {"max_batch": 1.0}, 1 / ALONE_S, ALONE_S)


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "tuned": lambda done: before_after.while_tuned(sleeper()),
    "found": lambda done: before_after.from_the_start(sleeper(), done["tuned"]),
    "model": lambda done: before_after.in_turn(embedder()),
    "path": lambda done: request_path.measured(1 if QUICK else 6, 3.0),
}
"""Each is given what was done before it."""
