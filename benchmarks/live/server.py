"""`python -m benchmarks.live.server TIMES`: the platform's server with laws that are quickened so."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

from benchmarks.live.quickened import quick
from kaon import processes
from kaon.control import scaling
from kaon.laws import choice
from kaon.settings import Settings
from kaon.stack import __main__ as stack
from kaon.stack.roles import ProcessRole

ROOT = Path(__file__).resolve().parents[2]


def start(settings: Settings, times: float) -> None:
    """Start it, before `kaon up` finds it running."""
    role = ProcessRole("server", settings)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    role.log.parent.mkdir(mode=0o700, parents=True)
    said = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    processes.spawn(
        [sys.executable, "-m", "benchmarks.live.server", f"{times:g}"],
        lock=role.lock,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        cwd=ROOT,
        log=role.log,
        stdin=json.dumps(said).encode(),
    )


def quicken(times: float) -> None:
    """Let the controllers of this process have such laws, and ask them as often as that needs."""
    choice.law = functools.partial(quick, times)
    scaling.TICK_S /= times


if __name__ == "__main__":
    quicken(float(sys.argv[1]))
    sys.argv = ["kaon.stack", "server"]
    sys.exit(stack.main())
