"""The port to the twin, which answers the tuner's queries. `kaon.sim.search` implements it; it may be missing."""

from __future__ import annotations

from typing import Protocol

from kaon.laws.tune.ask import TwinQuery, TwinResult


class TwinPort(Protocol):
    """Answers queries, one at a time."""

    def missing(self) -> str:
        """Why no simulation is possible here, with the next step; empty: it is."""
        ...

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """The result, within seconds. Raises `Unavailable` where no simulation is possible."""
        ...
