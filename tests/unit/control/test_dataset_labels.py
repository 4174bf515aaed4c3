"""A deployment follows the labels of its datasets, by a new template."""

from __future__ import annotations

import pytest

from kaon.clock import FakeClock
from kaon.control.dataset_labels import DatasetLabelController
from kaon.datasets.versions import pinned, with_versions
from kaon.store.memory import MemoryStore
from kaon.store.snapshot import Snapshot
from kaon.types.dataset import DatasetMount, DatasetSpec, DatasetStatus, DatasetVersionSpec
from kaon.types.deployment import DeploymentSpec, Template, template_hash

ARTIFACT = f"sha256:{'a' * 64}"


class Home:
    """A store with the dataset `shop` of two versions, and a deployment."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.snapshot = Snapshot(self.store)
        self.controller = DatasetLabelController(self.store, self.clock, self.snapshot)

    async def fill(self, ref: str) -> None:
        status = DatasetStatus(last=2, labels={"prod": 1})
        await self.store.create("dataset", "default", "shop", DatasetSpec(), status)
        for number in (1, 2):
            await self.version(number)
        await self.snapshot.current()
        template = Template(artifact=ARTIFACT, datasets={"model": DatasetMount(ref=ref)})
        template = with_versions(self.snapshot, "default", template)
        await self.store.create("deployment", "default", "web", DeploymentSpec(template=template))

    async def version(self, number: int) -> None:
        spec = DatasetVersionSpec(
            dataset="shop", number=number, manifest=f"sha256:{number:064x}", files=1, size_bytes=1
        )
        await self.store.create("dataset-version", "default", f"shop@{number}", spec)

    async def label(self, **labels: int) -> None:
        shop = await self.store.get("dataset", "default", "shop")
        await self.store.update_status(shop, shop.status.model_copy(update={"labels": labels}))

    async def settled(self) -> int:
        """The version that the deployment has, after the controller has done its work."""
        for key in await self.controller.keys():
            assert await self.controller.reconcile(key) is None
        web = await self.store.get("deployment", "default", "web")
        version = web.spec.template.datasets["model"].version
        assert version
        return version.number


@pytest.fixture
def home() -> Home:
    return Home()


async def test_a_label_that_moves_makes_another_template(home: Home) -> None:
    await home.fill("shop@prod")
    assert await home.settled() == 1
    before = await home.store.get("deployment", "default", "web")
    await home.label(prod=2)
    assert await home.settled() == 2
    after = await home.store.get("deployment", "default", "web")
    assert after.generation == before.generation + 1
    assert template_hash(after.spec.template) != template_hash(before.spec.template)
    [event] = await home.store.events("default", "deployment", "web")
    assert event.message == "It rolls out with shop@2 (shop@prod)."
    assert await home.settled() == 2
    assert (await home.store.get("deployment", "default", "web")).version == after.version


async def test_latest_is_a_label_that_moves_by_itself(home: Home) -> None:
    await home.fill("shop")
    assert await home.settled() == 2
    await home.version(3)
    assert await home.settled() == 3


async def test_a_number_and_a_pinned_template_stay(home: Home) -> None:
    await home.fill("shop@prod")
    web = await home.store.get("deployment", "default", "web")
    fixed = pinned(web.spec.template)
    assert template_hash(fixed) == template_hash(web.spec.template)
    await home.store.update_spec(web, web.spec.model_copy(update={"template": fixed}))
    await home.label(prod=2)
    assert await home.settled() == 1


async def test_a_label_that_was_removed_changes_nothing(home: Home) -> None:
    await home.fill("shop@prod")
    await home.label()
    assert await home.settled() == 1


async def test_changes_of_a_dataset_concern_who_follows_it(home: Home) -> None:
    await home.fill("shop@prod")
    changes = await home.store.changes(0)
    dataset_only = [change for change in changes if change.kind in ("dataset", "dataset-version")]
    assert await home.controller.affected(dataset_only) == {("default", "web")}
    web = await home.store.get("deployment", "default", "web")
    await home.store.update_spec(web, web.spec.model_copy(update={"template": pinned(web.spec.template)}))
    assert await home.controller.affected(dataset_only) == set()


def test_a_template_without_datasets_has_the_hash_of_earlier_releases() -> None:
    """Else an upgrade would roll out every deployment."""
    assert template_hash(Template(artifact=ARTIFACT)) == "679bf13b710c57d6"
