"""The port to the twin: who answers what the tuner asks. The simulator does (`kaon.sim.search`); it may be missing."""

from __future__ import annotations

from typing import Protocol

from kaon.laws.tune.ask import TwinQuery, TwinResult


class TwinPort(Protocol):
    """Answers one question after the other."""

    def missing(self) -> str:
        """Why nothing can simulate here, with what to do about it; empty: it can."""
        ...

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """The answer, within seconds. Raises `Unavailable` where nothing can simulate."""
        ...
