"""A tuner that never rests: it tries other knobs every second, and asks its twin again as soon as it has answered.

What it does is wished for in a file; what it did is counted in another. The way of a trial is the real one, from the
deployment's status over plan and agent to the replica, and back as samples with sides; so is the twin's, in its thread.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.autoscale.loads import generated
from benchmarks.tune.tuned import Tuned
from kaon.control.tune.controller import TuningController
from kaon.errors import Conflict
from kaon.laws.tune.ask import TwinQuery
from kaon.sim.search import ThreadedTwin
from kaon.types.names import DeploymentKey
from kaon.types.tuning import Reach, TrialStatus

LOOKS_S, CHANGES_S, UNTIL_S = 0.05, 1.0, 60.0
TRIED = ({"max_batch": 16.0}, {"max_batch": 24.0})


@dataclass
class Deeds:
    """What it did."""

    told: int = 0
    searches: int = 0
    search_cpu_s: list[float] = field(default_factory=list)

    def kept(self, path: Path) -> None:
        """Write it down."""
        cpu_s = median(self.search_cpu_s) if self.search_cpu_s else 0.0
        path.write_text(json.dumps({"told": self.told, "searches": self.searches, "search_cpu_s": cpu_s}))


class Restless(TuningController):
    """Replaces the tuner; `wish` and `deeds` are class attributes, set before it is made."""

    wish: Path
    deeds: Path

    async def run(self) -> None:
        done = Deeds()
        ask = await asyncio.to_thread(question)
        await ThreadedTwin().ask(ask)
        done.kept(self.deeds)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._change(done))
            group.create_task(self._search(done, ask))

    async def reconcile(self, key: DeploymentKey) -> None:
        """It needs to know nothing of deployments beforehand."""

    def _wished(self) -> str:
        return self.wish.read_text() if self.wish.exists() else "off"

    async def _change(self, done: Deeds) -> None:
        """Another trial every second; none when none is wished."""
        while True:
            if self._wished() == "off":
                await self._tried(None)
                await asyncio.sleep(LOOKS_S)
                continue
            now = self._clock.now()
            after = TRIED[done.told % len(TRIED)]
            await self._tried(TrialStatus(reach=Reach.REPLICA, after=after, since=now, replicas=1, until=now + UNTIL_S))
            done.told += 1
            done.kept(self.deeds)
            for _ in range(round(CHANGES_S / LOOKS_S)):
                if self._wished() == "off":
                    break
                await asyncio.sleep(LOOKS_S)

    async def _tried(self, trial: TrialStatus | None) -> None:
        for deployment in await self._store.list_all("deployment"):
            if deployment.status.tuning.trial == trial:
                continue
            tuning = deployment.status.tuning.model_copy(update={"trial": trial})
            try:
                await self._store.update_status(deployment, deployment.status.model_copy(update={"tuning": tuning}))
            except Conflict:
                continue  # again with the next look

    async def _search(self, done: Deeds, ask: TwinQuery) -> None:
        twin = ThreadedTwin()
        while True:
            if "searching" in self._wished():
                answer = await twin.ask(replace(ask, seed=done.searches))
                done.searches += 1
                done.search_cpu_s.append(answer.cpu_s)
                done.kept(self.deeds)
            else:
                await asyncio.sleep(LOOKS_S)


class _Asking(Tuned):
    """A simulated life of which the queries are kept."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.asks: list[TwinQuery] = []

    def _epoch(self, now: float, conditions: Any) -> Any:
        ask = self._ask(now)
        self.asks.append(replace(ask, past=ask.past.copied()))
        return super()._epoch(now, conditions)


def question() -> TwinQuery:
    """A tuner's query about a service after half an hour of a daily rhythm."""
    life = _Asking(generated(2400)[1], 1)
    life.run()
    return life.asks[-1]
