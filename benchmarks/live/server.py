"""`python -m benchmarks.live.server TIMES`: the platform's server with laws that are quickened so."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

from benchmarks.live.quickened import LawName, NamedScaling, quick
from kaon import processes
from kaon.control import scaler, scaling
from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.settings import Settings
from kaon.stack import __main__ as stack
from kaon.stack.roles import ProcessRole
from kaon.types.resource import Deployment

ROOT = Path(__file__).resolve().parents[2]


def start(settings: Settings, times: float) -> None:
    """Start it, before `kaon up` finds it running."""
    role = ProcessRole("server", settings)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    role.log.parent.mkdir(mode=0o700, parents=True)
    fields = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    processes.spawn(
        [sys.executable, "-m", "benchmarks.live.server", f"{times:g}"],
        lock=role.lock,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        cwd=ROOT,
        log=role.log,
        stdin=json.dumps(fields).encode(),
    )


def quicken(times: float) -> None:
    """Let this process's controllers scale each deployment by the law of its name, quickened, as often as it needs."""
    terms_of, applied = scaling.ScalingController.terms, scaler.applied

    def terms(controller: scaling.ScalingController, deployment: Deployment) -> scaler.ScalerTerms:
        found = terms_of(controller, deployment)
        by = LawName(deployment.name) if deployment.name in set(LawName) else LawName.KAON
        return found._replace(scaling=NamedScaling(by=by, **found.scaling.model_dump()))

    scaling.ScalingController.terms = terms
    scaler.applied = lambda law, tuned: applied(law, tuned) if isinstance(law, Scale) else law
    choice.law = functools.partial(quick, times)
    scaling.TICK_S /= times


if __name__ == "__main__":
    quicken(float(sys.argv[1]))
    sys.argv = ["kaon.stack", "server"]
    sys.exit(stack.main())
