"""The control plane's reconcilers: they make what the store says come true, and meet the API only there."""

from __future__ import annotations

import asyncio

from kaon.clock import Clock, SystemClock
from kaon.control.advising import Advising
from kaon.control.clouds import CloudController
from kaon.control.deployments import Deployments
from kaon.control.loop import Loop, Reconciler
from kaon.control.minutes import Minutes
from kaon.control.planning import ROUTES_BYTES, Planning
from kaon.control.repair import Repair
from kaon.control.retention import Retention
from kaon.control.scaling import Scaling
from kaon.control.supervisor import Supervisor
from kaon.control.tuning import Tuning
from kaon.control.twins import Twin
from kaon.store.garbage import Collector
from kaon.store.opinions import Opinions
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault


class Controllers:
    """All reconcilers over one store and the traffic that the API takes in."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock | None = None,
        *,
        traffic: TrafficRing | None = None,
        opinions: Opinions | None = None,
        twin: Twin | None = None,
        routes_bytes: int = ROUTES_BYTES,
        snapshot: Snapshot | None = None,
        collector: Collector | None = None,
    ) -> None:
        """Without a `snapshot` of the store, which somebody else follows, they make and follow one of their own.
        Without a `collector` nothing is collected that nobody needs any more."""
        self._follow = snapshot is None
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock or SystemClock()
        ring = traffic or TrafficRing()
        opinions = opinions or Opinions()
        self._supervisor = Supervisor(self._clock, opinions.failures)
        self.scaling = Scaling(store, self._clock, ring, opinions, self._snapshot)
        self.tuning = Tuning(store, self._clock, ring, opinions, self.scaling, twin)
        self.advising = Advising(store, self._clock, opinions, self.scaling)
        self.minutes = Minutes(store, self._clock, ring, self._snapshot, opinions.failures)
        self.retention = Retention(collector, self._clock) if collector else None
        self._deployments = Deployments(store, vault, self._clock, ring, self._snapshot, opinions.failures)
        self._repair = Repair(store, self._clock, self._snapshot)
        self.reconcilers: tuple[Reconciler, ...] = (
            self._repair,
            CloudController(store, self._clock, self._snapshot),
            self._deployments,
            Planning(store, self._clock, routes_bytes, self._snapshot),
            self.scaling,
            self.tuning,
            self.advising,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        keep = self._supervisor.keep
        async with asyncio.TaskGroup() as tasks:
            if self._follow:
                tasks.create_task(keep("snapshot", self._snapshot.run))
            await self._supervisor.once(self._repair.name, self._repair.all)
            for ticker in (self.scaling, self.tuning, self.advising, self.minutes):
                tasks.create_task(keep(f"{ticker.name}-tick", ticker.next_tick))
            if self.retention is not None:
                tasks.create_task(keep("retention", self.retention.run))
            for reconciler in self.reconcilers:
                tasks.create_task(self._loop(reconciler).run())

    def _loop(self, reconciler: Reconciler) -> Loop:
        if reconciler is not self._deployments:
            return Loop(reconciler, self._snapshot, self._clock, supervisor=self._supervisor)
        failed = self._deployments.show_failures
        loop = Loop(reconciler, self._snapshot, self._clock, supervisor=self._supervisor, failed=failed)
        self._supervisor.failures.changed = loop.wake
        return loop
