"""Traffic by the minute: from the ring into the store, where it is kept for a week.

A minute is written when it has ended, and again when more samples of it arrive later, as after a time in which an agent
could not reach the control plane. A minute of which the store has more is not overwritten: after a restart the ring
begins in the middle of a minute.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from kaon import log
from kaon.clock import Clock
from kaon.laws.traffic import MINUTE_S, minute
from kaon.store.failures import Failures
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import RING_S, TrafficRing
from kaon.types.names import DeploymentKey
from kaon.types.traffic import Sample

EVERY_S = 10.0
SETTLED_S = 5.0
"""Delay after which a minute is over: samples arrive a second or two late."""
_MORE_S = 0.5
_TICK = "minutes-tick"

MinuteKey = tuple[float, int]
"""End of the minute, and revision."""


class MinutesController:
    """Writes the minutes."""

    name = "minutes"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        traffic: TrafficRing,
        snapshot: Snapshot | None = None,
        failures: Failures | None = None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._traffic = traffic
        self._failures = failures or Failures()
        self._number = 0
        self._open: defaultdict[DeploymentKey, set[float]] = defaultdict(set)
        """Ends of minutes with samples that are not written yet."""
        self._written: dict[DeploymentKey, dict[MinuteKey, float]] = {}
        """Stored seconds of each minute."""
        self._born: dict[DeploymentKey, float] = {}
        """Creation time of their deployment, epoch seconds."""
        self._log = log.get("control.minutes")

    async def next_tick(self) -> None:
        """Write minutes that are over, `EVERY_S` from now. After a failure the ring has them for the next time."""
        await self._clock.sleep(EVERY_S)
        await self.tick()

    async def tick(self) -> None:
        """Write every minute that is over and has new samples."""
        await self._snapshot.at_least(self._store.written)
        moments, self._number = self._traffic.arrived(self._number)
        for moment in moments:
            end = (moment.at_s // MINUTE_S + 1) * MINUTE_S
            for key in moment.samples:
                self._open[key].add(end)
        before = self._clock.now() - SETTLED_S
        for key, ends in list(self._open.items()):
            over = {end for end in ends if end <= before}
            if over:
                try:
                    await self._write(key, over)
                    ends.difference_update(over)
                    self._failures.settle(_TICK, key)
                except Exception as error:  # a failure of one deployment must not stop the others
                    ends.difference_update({end for end in over if end < before - RING_S})
                    self._log.warning("minutes of traffic are not kept", key=key, exc_info=error)
                    self._failures.note(_TICK, key, error)
                await asyncio.sleep(0)
            if not ends:
                del self._open[key]
        for key in self._written.keys() - set(self._traffic.deployments()):
            del self._written[key]
            self._born.pop(key, None)

    async def _write(self, key: DeploymentKey, ends: set[float]) -> None:
        deployment = self._snapshot.find("deployment", *key)
        born = deployment.created_at if deployment else 0.0  # earlier samples are of an earlier deployment of the name
        if self._born.get(key) != born:
            self._born[key] = born
            self._written.pop(key, None)
        written = self._written.get(key)
        if written is None:
            there = await self._store.traffic(*key, self._clock.now() - RING_S - MINUTE_S)
            written = self._written[key] = {(m.at_s, m.revision): m.span_s for m in there}
        oldest = min(ends) - MINUTE_S
        parts: defaultdict[MinuteKey, list[Sample]] = defaultdict(list)
        for sample in self._traffic.since(*key, oldest - 1):
            end = (sample.at_s // MINUTE_S + 1) * MINUTE_S
            if end in ends and sample.at_s > born:
                parts[end, sample.revision].append(sample)
        sums = {place: minute(samples, place[0]) for place, samples in parts.items()}
        fresh = {place: sum_ for place, sum_ in sums.items() if sum_.span_s > written.get(place, 0.0) + _MORE_S}
        if fresh:
            await self._store.keep_traffic(list(fresh.values()))
        written |= {place: sum_.span_s for place, sum_ in fresh.items()}
        since = self._clock.now() - RING_S - MINUTE_S
        self._written[key] = {place: span_s for place, span_s in written.items() if place[0] > since}
