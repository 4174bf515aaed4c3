"""`python -m tests.e2e.lying`: the control plane with a twin that is wrong by construction, and asked at once.

Only the deployment `lied` has one. Of the others a search fails, and counts as what one takes: a twin that is asked
for all would be asked for `lied` only when it is its turn, 20 s later for each of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kaon import processes
from kaon.control.tune import controller, session
from kaon.errors import Unavailable
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Proposal
from kaon.laws.tune.gate import GateVerdict
from kaon.settings import Settings
from kaon.stack import __main__ as stack
from kaon.stack import server
from kaon.stack.roles import ProcessRole


class LyingTwin:
    """Promises a gain of 30 % for batches of one row more, and is sure of it."""

    def missing(self) -> str:
        """That it is right is missing, and it does not say so."""
        return ""

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """Nothing of this is so."""
        if ask.deployment != "lied":
            raise Unavailable("There is no twin of it.")
        promised = GateVerdict(True, 0.3, 0.2, "gain 30 %")
        found = Proposal(ask.force, {**ask.force, "max_batch": 2.0}, promised, 0.6, ())
        return TwinResult(ask.search, found, foreseen=((ask.force, 2.0),), reference_s=0.1)


def start(settings: Settings) -> None:
    """Start it, where no other runs. Killed, it is followed by one with a twin that is right."""
    role = ProcessRole("server", settings)
    said = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    processes.spawn(
        [sys.executable, "-m", "tests.e2e.lying"],
        lock=role.lock,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        cwd=Path(__file__).parents[2],
        log=role.log,
        stdin=json.dumps(said).encode(),
    )


if __name__ == "__main__":
    server.ThreadedTwin = LyingTwin  # type: ignore[misc, assignment]
    session.LEARNS_S = controller.LIKELY_S = 0.0
    sys.argv = ["kaon.stack", "server"]
    sys.exit(stack.main())
