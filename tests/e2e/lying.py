"""`python -m tests.e2e.lying`: the control plane with a twin that is wrong by construction, and searches at once.

Only the deployment `lied` has one. A search for another deployment fails at once: real searches would take
their turns, and `lied` would wait 20 s for each of the others.
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
    """Promises a gain of 30 % for batches that are larger by one row, with full confidence."""

    def missing(self) -> str:
        """Nothing is missing: the twin claims to be ready."""
        return ""

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """A made-up result."""
        if ask.deployment != "lied":
            raise Unavailable("There is no twin of it.")
        promised = GateVerdict(True, 0.3, 0.2, "gain 30 %")
        found = Proposal(ask.force, {**ask.force, "max_batch": 2.0}, promised, 0.6, ())
        return TwinResult(ask.search, found, foreseen=((ask.force, 2.0),), reference_s=0.1)


def start(settings: Settings) -> None:
    """Start it where no control plane runs. When it is killed, the agent starts an ordinary one."""
    role = ProcessRole("server", settings)
    document = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    processes.spawn(
        [sys.executable, "-m", "tests.e2e.lying"],
        lock=role.lock,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        cwd=Path(__file__).parents[2],
        log=role.log,
        stdin=json.dumps(document).encode(),
    )


if __name__ == "__main__":
    server.ThreadedTwin = LyingTwin  # type: ignore[misc, assignment]
    session.LEARNS_S = controller.LIKELY_S = 0.0
    sys.argv = ["kaon.stack", "server"]
    sys.exit(stack.main())
