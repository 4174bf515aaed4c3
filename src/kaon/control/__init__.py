"""The control plane's reconcilers: they realise the stored specs, and share only the store with the API."""

from __future__ import annotations

import asyncio

from kaon.clock import Clock, SystemClock
from kaon.control.advising import AdviceController
from kaon.control.clouds import CloudController
from kaon.control.dataset_labels import DatasetLabelController
from kaon.control.deployments import DeploymentController
from kaon.control.jobs import JobController
from kaon.control.loop import ReconcileLoop, Reconciler
from kaon.control.minutes import MinutesController
from kaon.control.planning import ROUTES_BYTES, PlanningController
from kaon.control.repair import RepairController
from kaon.control.retention import RetentionController
from kaon.control.scaling import ScalingController
from kaon.control.supervisor import Supervisor
from kaon.control.tune.controller import TuningController
from kaon.control.tune.twin_port import TwinPort
from kaon.datasets.retention import DatasetCollector
from kaon.store.garbage import Collector
from kaon.store.live_status import LiveStatus
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault


class Controllers:
    """All reconcilers of one store and of the traffic that the API receives."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock | None = None,
        *,
        traffic: TrafficRing | None = None,
        live_status: LiveStatus | None = None,
        twin: TwinPort | None = None,
        routes_bytes: int = ROUTES_BYTES,
        snapshot: Snapshot | None = None,
        collector: Collector | None = None,
        datasets: DatasetCollector | None = None,
    ) -> None:
        """Without a `snapshot` of the store that is kept up to date, they make one of their own. Without a `collector`
        unused data is not deleted."""
        self._follow = snapshot is None
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock or SystemClock()
        ring = traffic or TrafficRing()
        live_status = live_status or LiveStatus()
        self._supervisor = Supervisor(self._clock, live_status.failures)
        self.scaling = ScalingController(store, self._clock, ring, live_status, self._snapshot)
        self.tuning = TuningController(store, self._clock, ring, live_status, self.scaling, twin)
        self.advising = AdviceController(store, self._clock, live_status, self.scaling)
        self.minutes = MinutesController(store, self._clock, ring, self._snapshot, live_status.failures)
        self.retention = RetentionController(collector, self._clock, datasets) if collector else None
        self._deployments = DeploymentController(store, vault, self._clock, ring, self._snapshot, live_status.failures)
        self._repair = RepairController(store, self._clock, self._snapshot)
        self.reconcilers: tuple[Reconciler, ...] = (
            self._repair,
            DatasetLabelController(store, self._clock, self._snapshot),
            CloudController(store, self._clock, self._snapshot),
            self._deployments,
            JobController(store, vault, self._clock, self._snapshot),
            PlanningController(store, self._clock, routes_bytes, self._snapshot),
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

    def _loop(self, reconciler: Reconciler) -> ReconcileLoop:
        if reconciler is not self._deployments:
            return ReconcileLoop(reconciler, self._snapshot, self._clock, supervisor=self._supervisor)
        failed = self._deployments.show_failures
        loop = ReconcileLoop(reconciler, self._snapshot, self._clock, supervisor=self._supervisor, failed=failed)
        self._supervisor.failures.changed = loop.wake
        return loop
