"""Callers that wait at zero: one is wanted at once, by one write."""

from __future__ import annotations

import pytest

from kaon.clock import FakeClock
from kaon.control.deployments import DeploymentController
from kaon.store.memory import MemoryStore
from kaon.store.vault import Vault
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.plan import Report

SHOP = ("default", "shop")


class Asleep:
    """A deployment at zero, its reconciler, and a cloud that reports who waits."""

    def __init__(self, scaling: Scaling) -> None:
        self.store = MemoryStore()
        self.scaling = scaling
        self.reconciler = DeploymentController(self.store, Vault(bytes(32)), FakeClock())

    async def __aenter__(self) -> Asleep:
        await self.store.create("cloud", "", "local", CloudSpec())
        spec = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"), scaling=self.scaling)
        await self.store.create("deployment", *SHOP, spec)
        await self.reconciler.reconcile(SHOP)
        shop = await self.store.get("deployment", *SHOP)
        status = shop.status.model_copy(update={"wanted": 0, "stable": 1})
        await self.store.update_status(shop, status)
        await self.reconciler.reconcile(SHOP)
        await self.hold()
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def hold(self, **held: int) -> None:
        cloud = await self.store.get("cloud", "", "local")
        report = Report(cloud="local", held={f"default/{name}": count for name, count in held.items()})
        await self.store.update_status(cloud, CloudStatus(report=report))

    async def look(self) -> int:
        """What the reconciler makes of the cloud's change; how many replicas are assigned then."""
        async for changes in self.store.watch(await self.store.version() - 1):
            for key in await self.reconciler.affected(changes):
                await self.reconciler.reconcile(key)
            break
        shop = await self.store.get("deployment", *SHOP)
        return sum(a.replicas for a in shop.status.assignments)


async def test_a_caller_who_waits_at_zero_gets_a_replica_by_one_write() -> None:
    async with Asleep(Scaling(min=0, max=5)) as asleep:
        assert await asleep.look() == 0
        await asleep.hold(shop=3)
        before = await asleep.store.version()
        assert await asleep.look() == 1
        assert await asleep.store.version() == before + 1
        shop = await asleep.store.get("deployment", *SHOP)
        assert (shop.status.wanted, shop.status.wanted_reason) == (1, "3 callers wait for a replica")
        (entry,) = await asleep.store.journal(*SHOP, "scaling")
        assert (entry.concern, entry.before, entry.after, entry.reason) == (
            "scaling",
            "0",
            "1",
            "3 callers wait for a replica",
        )


async def test_who_waits_for_another_deployment_wakes_nothing_here() -> None:
    async with Asleep(Scaling(min=0, max=5)) as asleep:
        await asleep.hold(cart=3)
        assert await asleep.look() == 0


@pytest.mark.parametrize("held", [{}, {"shop": 1}])
async def test_a_deployment_that_is_off_is_not_woken(held: dict[str, int]) -> None:
    async with Asleep(Scaling(min=0, max=0)) as asleep:
        await asleep.hold(**held)
        assert await asleep.look() == 0
