"""Callers that wait at zero: a replica is wanted and assigned at once, without a tick of the scaling law."""

from __future__ import annotations

import pytest
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control.deployments import DeploymentController
from kaon.control.loop import Reconciler
from kaon.control.scaling import ScalingController
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.plan import Report

SHOP = ("default", "shop")


class Asleep:
    """A deployment at zero, the controllers of deployments and scaling, and a cloud that reports waiting callers."""

    def __init__(self, scaling: Scaling) -> None:
        self.store, clock, ring = MemoryStore(), FakeClock(), TrafficRing()
        self.scaling, snapshot = scaling, Snapshot(self.store)
        self.reconcilers: list[Reconciler] = [
            DeploymentController(self.store, Vault(bytes(32)), clock, ring, snapshot),
            ScalingController(self.store, clock, ring, LiveStatus(), snapshot),
        ]
        self.version = 0

    async def __aenter__(self) -> Asleep:
        await self.store.create("cloud", "", "local", CloudSpec())
        spec = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"), scaling=self.scaling)
        await self.store.create("deployment", *SHOP, spec)
        await self.look()
        shop = await self.store.get("deployment", *SHOP)
        await self.store.update_status(shop, status_with(shop.status, wanted=0, stable=1))
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def hold(self, **held: int) -> None:
        cloud = await self.store.get("cloud", "", "local")
        report = Report(cloud="local", held={f"default/{name}": count for name, count in held.items()})
        await self.store.update_status(cloud, CloudStatus(report=report))

    async def look(self) -> int:
        """Let the controllers follow all changes; how many replicas are assigned then."""
        while self.version < await self.store.version():
            async for changes in self.store.watch(self.version):
                self.version = max(change.version for change in changes)
                for reconciler in self.reconcilers:
                    for key in await reconciler.affected(changes):
                        await reconciler.reconcile(key)
                break
        shop = await self.store.get("deployment", *SHOP)
        return sum(a.replicas for a in shop.status.rollout.assignments)


async def test_a_caller_who_waits_at_zero_gets_a_replica_without_a_tick() -> None:
    async with Asleep(Scaling(min=0, max=5)) as asleep:
        assert await asleep.look() == 0
        await asleep.hold(shop=3)
        assert await asleep.look() == 1
        shop = await asleep.store.get("deployment", *SHOP)
        assert (shop.status.scaling.wanted, shop.status.scaling.reason) == (1, "3 callers wait for a replica")
        (entry,) = await asleep.store.journal(*SHOP, "scaling")
        assert (entry.concern, entry.before, entry.after, entry.reason) == (
            "scaling",
            "0",
            "1",
            "3 callers wait for a replica",
        )


async def test_who_waits_for_another_deployment_wakes_nothing_here() -> None:
    async with Asleep(Scaling(min=0, max=5)) as asleep:
        assert await asleep.look() == 0
        await asleep.hold(cart=3)
        assert await asleep.look() == 0


@pytest.mark.parametrize("held", [{}, {"shop": 1}])
async def test_a_deployment_that_is_off_is_not_woken(held: dict[str, int]) -> None:
    async with Asleep(Scaling(min=0, max=0)) as asleep:
        await asleep.hold(**held)
        assert await asleep.look() == 0
