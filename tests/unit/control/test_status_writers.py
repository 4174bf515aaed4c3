"""Each part of a deployment's status has one writer among the controllers."""

from __future__ import annotations

from collections import defaultdict

from kaon.clock import FakeClock
from kaon.control import Controllers
from kaon.store.memory import MemoryStore
from kaon.store.vault import Vault
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.plan import Report
from kaon.types.tuning import TunerAction, TunerCommand, TuningSpec

SHOP = ("default", "shop")
SPEC = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"))


class Observed:
    """All controllers over one deployment, one at a time, and which parts of its status each of them changed."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.reconcilers = Controllers(self.store, Vault(bytes(32)), FakeClock()).reconcilers
        self.written: defaultdict[str, set[str]] = defaultdict(set)

    async def settle(self) -> None:
        for reconciler in self.reconcilers * 3:
            for key in await reconciler.keys():
                before = (await self.store.get("deployment", *SHOP)).status
                await reconciler.reconcile(key)
                after = (await self.store.get("deployment", *SHOP)).status
                changed = {name for name, value in after if value != getattr(before, name)}
                self.written[reconciler.name] |= changed

    async def spec(self, **changes: object) -> None:
        shop = await self.store.get("deployment", *SHOP)
        await self.store.update_spec(shop, shop.spec.model_copy(update=changes))
        await self.settle()

    async def command(self, command: TunerCommand) -> None:
        await self.spec(tuning=TuningSpec(commands=(command,)))

    async def report(self, **fields: object) -> None:
        cloud = await self.store.get("cloud", "", "local")
        report = Report(cloud="local", **fields)
        await self.store.update_status(cloud, CloudStatus(report=report))
        await self.settle()


async def test_a_request_to_the_tuner_is_no_new_revision_and_no_rollout() -> None:
    world = Observed()
    await world.store.create("cloud", "", "local", CloudSpec())
    await world.store.create("deployment", *SHOP, SPEC)
    await world.settle()
    before, revisions = await world.store.get("deployment", *SHOP), await world.store.list_all("revision")
    await world.command(TunerCommand(id=1, action=TunerAction.SET, values={"max_batch": 2}, at=0, by="ann"))
    after = await world.store.get("deployment", *SHOP)
    assert (after.status.tuning.values, after.status.tuning.command) == ({"max_batch": 2}, 1)
    assert after.status.rollout.observed_generation == before.status.rollout.observed_generation + 1
    same = {"observed_generation": before.status.rollout.observed_generation}
    assert after.status.rollout.model_copy(update=same) == before.status.rollout
    assert await world.store.list_all("revision") == revisions


async def test_no_two_controllers_write_the_same_part_of_a_status() -> None:
    world = Observed()
    await world.store.create("cloud", "", "local", CloudSpec())
    await world.store.create("deployment", *SHOP, SPEC)
    await world.settle()
    await world.report(refusals={"default/shop": ("poison-1",)})
    await world.spec(scaling=Scaling(min=2, max=2))
    await world.spec(scaling=Scaling(min=0, max=5))
    shop = await world.store.get("deployment", *SHOP)
    asleep = {
        "scaling": shop.status.scaling.model_copy(update={"wanted": 0}),
        "rollout": shop.status.rollout.model_copy(update={"stable": 1}),
    }
    await world.store.update_status(shop, shop.status.model_copy(update=asleep))
    await world.command(TunerCommand(id=1, action=TunerAction.SET, values={"max_batch": 2}, at=0, by="ann"))
    await world.report(held={"default/shop": 3})
    await world.spec(scaling=Scaling(min=1, max=1))
    writers = {name: fields for name, fields in world.written.items() if fields}
    assert writers == {
        "deployments": {"rollout", "placement", "refused", "conditions"},
        "scaling": {"scaling"},
        "tuning": {"tuning"},
    }
