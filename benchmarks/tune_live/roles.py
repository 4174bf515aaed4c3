"""`python -m benchmarks.tune_live.roles server|agent TIMES [restless]`: the platform's roles, at a pace."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tune_live.pace import Pace, QuickClock, QuickRing, objective
from kaon import control, processes
from kaon.agent.traffic import observer
from kaon.control import scaler, scaling
from kaon.control.tune import controller, inputs
from kaon.settings import Settings
from kaon.stack import __main__ as stack
from kaon.stack import server
from kaon.stack.roles import ROLES, ProcessRole

ROOT = Path(__file__).resolve().parents[2]
SAMPLES_S = 0.25
"""So often the agent counts here, seconds of the machine: at a second, figures would be too old for a quick law."""
NOTES, WISH, DEEDS = "samples.jsonl", "wish", "deeds.json"
"""Files under the home: reports of agents; requests to a restless tuner, and its actions."""


_OF_THE_MACHINE = (
    (scaler, "STALE_S", 3.0),
    (inputs, "STALE_S", 3.0),
    (inputs, "SETTLED_S", 1.0),
    (controller, "PATIENCE_S", 60.0),
)
"""Times that wait for the machine, not for traffic: figures on their way, an answer of the twin. They last at least so
long of its own seconds."""


def start(settings: Settings, times: float, *, restless: bool = False) -> None:
    """Start both, before `kaon up` finds them running. `restless`: with a tuner that never rests when it is wished."""
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ROLES:
        role = ProcessRole(name, settings)
        role.log.parent.mkdir(mode=0o700, parents=True)
        fields = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
        processes.spawn(
            [
                sys.executable,
                "-m",
                "benchmarks.tune_live.roles",
                name,
                repr(times),
                *(["restless"] if restless else []),
            ],
            lock=role.lock,
            env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
            cwd=ROOT,
            log=role.log,
            stdin=json.dumps(fields).encode(),
        )


def quicken(pace: Pace, *, restless: bool = False) -> None:
    """Let the parts of this process that tune, scale and remember traffic live at `pace`."""
    clock = QuickClock(pace)

    def paced(kind: Callable[..., Any]) -> Callable[..., Any]:
        return lambda store, _, *rest, **named: kind(store, clock, *rest, **named)

    for name in ("Scaling", "Minutes", "Tuning"):
        setattr(control, name, paced(getattr(control, name)))
    scaling.ScalerTerms = functools.partial(_terms, pace.times, scaler.ScalerTerms)  # type: ignore[misc, assignment]
    for module, name, real_s in _OF_THE_MACHINE:
        setattr(module, name, max(getattr(module, name), real_s * pace.times))
    serve = server.serve

    async def served(settings: Settings, *rest: Any) -> None:
        if restless:
            unrest(settings.home)
        server.TrafficRing = functools.partial(QuickRing, pace, settings.home / NOTES)  # type: ignore[misc, assignment]
        await serve(settings, *rest)

    server.serve = served


def unrest(home: Path) -> None:
    """Let a tuner that never rests be in the tuner's place."""
    from benchmarks.tune_live.restless import Restless  # it imports the simulator, which no other role needs

    Restless.wish, Restless.deeds = home / WISH, home / DEEDS
    control.TuningController = Restless  # type: ignore[misc]


def _terms(times: float, kind: Callable[..., Any], rules: Any, told: Any, *rest: Any, **named: Any) -> Any:
    return kind(rules, objective(told, times), *rest, **named)


if __name__ == "__main__":
    role_name, said_times, restless_too = sys.argv[1], float(sys.argv[2]), "restless" in sys.argv[3:]
    if role_name == "agent":
        observer.EVERY_S = SAMPLES_S if said_times > 1 else observer.EVERY_S
    else:
        quicken(Pace(said_times), restless=restless_too)
    sys.argv = ["kaon.stack", role_name]
    sys.exit(stack.main())
