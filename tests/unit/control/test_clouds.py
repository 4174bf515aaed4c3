"""The phase of each cloud follows its agent's reports, and what is placed there follows the phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.replicas import status_of

from kaon.clock import FakeClock
from kaon.control.clouds import CloudController
from kaon.control.deployments import DeploymentController
from kaon.control.loop import Again
from kaon.laws.place import LOST_AFTER_S
from kaon.store.memory import MemoryStore
from kaon.store.port import Change
from kaon.store.vault import Vault
from kaon.types.cloud import CloudPhase, CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.plan import Report

SHOP = ("default", "shop")
SPEC = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"), scaling=Scaling(min=2, max=2))


class Platform:
    """A store, the two reconcilers, and agents of a few lines."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.clouds = CloudController(self.store, self.clock)
        self.deployments = DeploymentController(self.store, Vault(bytes(32)), self.clock)

    async def join(self, *names: str) -> None:
        for name in names:
            await self.store.create("cloud", "", name, CloudSpec())
            await self.report(name)
            await self.clock.advance(1)

    async def report(self, name: str) -> None:
        """Every replica of the shop that is assigned there is ready."""
        shop = await self.store.find("deployment", *SHOP)
        here = shop is not None and shop.status.placement is not None and shop.status.placement.cloud == name
        assigned = [(a.revision, o) for a in shop.status.rollout.assignments for o in a.ordinals] if here else []
        report = Report(cloud=name, replicas=tuple(status_of(shop.uid, *at) for at in assigned))
        cloud = await self.store.get("cloud", "", name)
        changed = {"report": report, "seen_at": self.clock.now()}
        await self.store.update_status(cloud, cloud.status.model_copy(update=changed))
        await self.clouds.reconcile(("", name))

    async def deploy(self, *, agent: str | None = None) -> Any:
        if await self.store.find("deployment", *SHOP) is None:
            await self.store.create("deployment", *SHOP, SPEC)
        for _ in range(3):
            await self.deployments.reconcile(SHOP)
            if agent:
                await self.report(agent)
        return await self.store.get("deployment", *SHOP)

    async def phase(self, name: str) -> CloudPhase:
        status: CloudStatus = (await self.store.get("cloud", "", name)).status
        return status.phase

    async def events(self) -> list[str]:
        return [event.reason for event in await self.store.events("default")]


@pytest.fixture
def platform() -> Platform:
    return Platform()


async def test_a_cloud_that_falls_silent_is_lost_and_one_that_reports_again_is_ready(platform: Platform) -> None:
    await platform.join("zurich")
    assert await platform.phase("zurich") is CloudPhase.READY
    assert await platform.clouds.reconcile(("", "zurich")) == Again(LOST_AFTER_S - 1)
    await platform.clock.advance(LOST_AFTER_S)
    assert await platform.clouds.reconcile(("", "zurich")) is None
    assert await platform.phase("zurich") is CloudPhase.LOST
    await platform.report("zurich")
    assert await platform.phase("zurich") is CloudPhase.READY
    assert await platform.events() == ["CloudReady", "CloudLost", "CloudReady"]


async def test_a_lost_cloud_has_no_ready_replicas_and_the_deployment_has_the_reason(platform: Platform) -> None:
    await platform.join("zurich")
    shop = await platform.deploy(agent="zurich")
    assert sum(a.ready for a in shop.status.rollout.assignments) == 2
    await platform.clock.advance(LOST_AFTER_S)
    await platform.clouds.reconcile(("", "zurich"))
    shop = await platform.deploy()
    holds = {c.type: (c.holds, c.reason) for c in shop.status.conditions}
    assert sum(a.ready for a in shop.status.rollout.assignments) == 0
    assert holds["Ready"] == (False, "0 of 2 replicas are ready.")
    assert "'zurich' is lost" in holds["Reported"][1]
    assert shop.status.placement.cloud == "zurich"
    shop = await platform.deploy(agent="zurich")
    assert sum(a.ready for a in shop.status.rollout.assignments) == 2
    assert "Reported" not in {c.type for c in shop.status.conditions}
    events = await platform.events()
    assert events.index("CloudLost") < events.index("NotReported") < events.index("Reported")


async def test_a_cloud_that_joins_moves_nothing_whatever_its_name_is(platform: Platform) -> None:
    await platform.join("zurich")
    before = await platform.deploy(agent="zurich")
    await platform.join("athens")
    after = await platform.deploy(agent="zurich")
    assert after.status.placement.cloud == "zurich"
    assert after.status.rollout.assignments == before.status.rollout.assignments


async def test_a_cordoned_cloud_gets_nothing_new(platform: Platform) -> None:
    await platform.join("zurich", "athens")
    zurich = await platform.store.get("cloud", "", "zurich")
    await platform.store.update_spec(zurich, CloudSpec(cordoned=True))
    await platform.clouds.reconcile(("", "zurich"))
    assert (await platform.deploy()).status.placement.cloud == "athens"


async def test_what_was_in_a_cloud_that_is_deleted_is_placed_in_another(platform: Platform) -> None:
    await platform.join("zurich", "athens")
    assert (await platform.deploy(agent="zurich")).status.placement.cloud == "zurich"
    await platform.store.delete(await platform.store.get("cloud", "", "zurich"))
    shop = await platform.deploy(agent="athens")
    assert shop.status.placement.cloud == "athens"
    assert "Placed" in await platform.events()
    assert sum(a.ready for a in shop.status.rollout.assignments) == 2


async def test_without_a_cloud_a_deployment_waits_with_the_reason_until_one_joins(platform: Platform) -> None:
    shop = await platform.deploy()
    reasons = {c.type: c.reason for c in shop.status.conditions if not c.holds}
    assert "none has joined" in reasons["Placed"]
    await platform.join("zurich")
    assert SHOP in await platform.deployments.affected(await _cloud_changes(platform.store))
    assert (await platform.deploy()).status.placement.cloud == "zurich"


async def _cloud_changes(store: MemoryStore) -> Sequence[Change]:
    watching = store.watch(0)
    changes = await anext(watching)
    await watching.aclose()
    return [change for change in changes if change.kind == "cloud"]
