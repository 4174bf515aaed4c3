"""Scaling laws whose time passes more quickly: a run of five minutes is twenty of theirs.

Laws have windows in seconds: Knative's a minute, Ray Serve's ten minutes before it goes down. To play them within
minutes without favour, none of these is touched. Instead a law is told of all that it sees in seconds of its own, of
which `times` pass in one of the clock, and is asked `times` as often. To the law the run is one of `times` the
length, of a service `times` as slow, with starts `times` as long; so the machine plays that service, exactly, but for
how old the figures are: those come as often as they always do, and so are `times` as old to it.

`python -m benchmarks.live.quickened TIMES` is the platform's server with such laws.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaon import processes
from kaon.laws import choice
from kaon.laws.scaling import Bounds, Decision, Law
from kaon.settings import Settings
from kaon.stack import __main__ as stack
from kaon.stack.roles import Role
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.observation import Observation

ROOT = Path(__file__).resolve().parents[2]
_CHOSEN = choice.law


def objective(told: Objective, times: float) -> Objective:
    """The same objective in a law's own seconds."""
    return told.model_copy(update={"latency_s": told.latency_s * times, "deadline_s": told.patience_s * times})


def observation(seen: Observation, times: float) -> Observation:
    """The same figures in a law's own seconds."""
    batches = seen.batches
    return seen.model_copy(
        update={
            "at_s": seen.at_s * times,
            "span_s": seen.span_s * times,
            "busy_s": _times(seen.busy_s, times),
            "cold_start_s": _times(seen.cold_start_s, times),
            "batches": batches.model_copy(
                update={"seconds": batches.seconds * times, "rows_seconds": batches.rows_seconds * times}
            ),
        }
    )


def _times(seconds: float | None, times: float) -> float | None:
    return None if seconds is None else seconds * times


@dataclass(frozen=True, slots=True)
class Quickened:
    """`law`, of whose seconds `times` pass in one of the clock."""

    law: Law
    times: float

    def begin(self) -> Any:
        return self.law.begin()

    def step(self, state: Any, bounds: Bounds, seen: Observation) -> tuple[Any, Decision]:
        return self.law.step(state, bounds, observation(seen, self.times))


def quick(scaling: Scaling, told: Objective, max_batch: int, times: float, **rest: Any) -> Law:
    """The law that a spec names, quickened; `rest` as `kaon.laws.choice.law` takes it."""
    return Quickened(_CHOSEN(scaling, objective(told, times), max_batch, **rest), times)


def quicken(times: float) -> None:
    """Let the controllers of this process have such laws, and ask them as often as that needs."""
    choice.law = functools.partial(_quick, times)


def _quick(times: float, scaling: Scaling, told: Objective, max_batch: int, **rest: Any) -> Law:
    return quick(scaling, told, max_batch, times, **rest)


def start_server(settings: Settings, times: float) -> None:
    """Start the platform's server, before `kaon up` finds it running."""
    role = Role("server", settings)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    role.log.parent.mkdir(mode=0o700, parents=True)
    said = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    processes.spawn(
        [sys.executable, "-m", "benchmarks.live.quickened", f"{times:g}"],
        lock=role.lock,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        cwd=ROOT,
        log=role.log,
        stdin=json.dumps(said).encode(),
    )


if __name__ == "__main__":
    quicken(float(sys.argv[1]))
    sys.argv = ["kaon.stack", "server"]
    sys.exit(stack.main())
