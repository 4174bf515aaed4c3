"""The parts of the benchmark, and what each is played with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import QUICK
from benchmarks.tune_live import before_after
from benchmarks.tune_live.apps.sleeper import A_S, B_S, OBJECTIVE
from benchmarks.tune_live.before_after import Setting
from benchmarks.tune_live.loads import chosen
from benchmarks.tune_live.match import Service

APPS = Path(__file__).parent / "apps"
TIMES = 2 ** (18 / 4) if QUICK else 2 ** (14 / 4)
"""A root of two, so that no bucket of a latency histogram is split: 11.3."""
SECONDS = 90 if QUICK else 636
"""34 minutes of the tuner's, or two hours."""
USUAL = 8
MOST = 24

SLEEPER = Service(f"{APPS / 'sleeper.py'}:Sleeper", OBJECTIVE, 2.0, MOST, '{"rows": [1]}')


def sleeper() -> Setting:
    """The service of known cost, on three loads at once."""
    full_s = A_S * USUAL + B_S
    return Setting(
        service=SLEEPER,
        loads=chosen(os.environ.get("TRACES"), SECONDS, TIMES, most=1 if QUICK else 3),
        times=TIMES,
        usual={"max_batch": float(USUAL)},
        serves_rps=USUAL / full_s,
        reference_s=full_s / USUAL,
    )


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "tuned": lambda done: before_after.while_tuned(sleeper()),
    "found": lambda done: before_after.from_the_start(sleeper(), done["tuned"]),
}
"""Each is given what was done before it."""
