"""Unused versions and bytes go; what is labelled, used, new or being pushed stays."""

from __future__ import annotations

import dataclasses

import pytest

from kaon.clock import FakeClock
from kaon.datasets.retention import BLOBS_S, NEW_S, DatasetCollector
from kaon.datasets.versions import keep_manifest, new_version, read_manifest, resolve
from kaon.errors import Conflict, InvalidInput
from kaon.laws.datasets import manifest_of
from kaon.laws.retention import Blob
from kaon.store.memory import MemoryStore
from kaon.store.port import AuditQuery
from kaon.store.snapshot import Snapshot
from kaon.testing.blobs import MemoryBlobs, chunks_of, digest_of
from kaon.types.dataset import DatasetFile, DatasetMount, DatasetOrigin, DatasetSpec
from kaon.types.deployment import DeploymentSpec, Template

ARTIFACT = f"sha256:{'a' * 64}"


class Home:
    """A store, blobs and a collector."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store, self.blobs = MemoryStore(self.clock), MemoryBlobs()
        self.snapshot = Snapshot(self.store)
        self.space = self.blobs.within("default")
        self.collector = DatasetCollector(self.store, self.snapshot, self.blobs, self.clock)

    async def push(self, dataset: str, *contents: bytes) -> str:
        """A version with a file of each content; its name."""
        for content in contents:
            await self.space.put(chunks_of(content), 100)
        files = [
            DatasetFile(path=str(number), size_bytes=len(content), digest=digest_of(content))
            for number, content in enumerate(contents)
        ]
        await self.snapshot.current()
        manifest = manifest_of(files)
        digest = await keep_manifest(self.space, manifest)
        made = new_version(self.snapshot, "default", dataset, manifest, digest, created_by="me")
        await self.store.write(made.writes)
        await self.snapshot.current()
        return made.ref.text

    async def versions(self) -> list[str]:
        await self.snapshot.current()
        return [version.name for version in self.snapshot.list("dataset-version")]

    def age(self) -> None:
        """All bytes and versions become old."""
        self.clock.jump(BLOBS_S + NEW_S)


@pytest.fixture
def home() -> Home:
    return Home()


async def test_old_versions_go_and_the_newest_stay(home: Home) -> None:
    for number in range(4):
        await home.push("shop", str(number).encode(), b"common")
    shop = await home.store.get("dataset", "default", "shop")
    await home.store.update_spec(shop, DatasetSpec(keep=2))
    assert not await home.collector.collect()  # all are new
    home.age()
    gone = await home.collector.collect()
    assert gone.versions == ("default/shop@1", "default/shop@2")
    assert await home.versions() == ["shop@3", "shop@4"]
    left = set(home.space.files)
    assert {digest_of(b"2"), digest_of(b"3"), digest_of(b"common")} <= left
    assert not {digest_of(b"0"), digest_of(b"1")} & left
    assert len(left) == 5
    [record, *_] = await home.store.audit(AuditQuery(kind="dataset-version"))
    assert (record.verb, record.actor) == ("delete", "collector")
    assert await home.push("shop", b"5") == "shop@5"


async def test_what_is_labelled_or_used_stays(home: Home) -> None:
    for number in range(4):
        await home.push("shop", str(number).encode())
    shop = await home.store.get("dataset", "default", "shop")
    shop = await home.store.update_spec(shop, DatasetSpec(keep=1))
    await home.store.update_status(shop, shop.status.model_copy(update={"labels": {"prod": 1}}))
    await home.snapshot.current()
    mount = DatasetMount(ref="shop@2", version=resolve(home.snapshot, "default", "shop@2"))
    template = Template(artifact=ARTIFACT, datasets={"data": mount})
    await home.store.create("deployment", "default", "web", DeploymentSpec(template=template))
    home.age()
    await home.collector.collect()
    assert await home.versions() == ["shop@1", "shop@2", "shop@4"]


async def test_bytes_of_a_push_under_way_stay_for_a_day(home: Home) -> None:
    await home.push("shop", b"x")
    home.clock.jump(BLOBS_S / 2)
    listed = home.space.list_all

    async def as_of_now() -> list[Blob]:
        young = digest_of(b"young")
        return [dataclasses.replace(b, written_at=home.clock.now() if b.digest == young else 0) for b in await listed()]

    home.space.list_all = as_of_now  # type: ignore[method-assign]
    for content in (b"young", b"old"):
        await home.space.put(chunks_of(content), 10)
    home.age()
    gone = await home.collector.collect()
    assert (gone.blobs, gone.blob_bytes) == (1, 3)
    assert digest_of(b"young") in home.space.files


async def test_a_version_needs_all_its_files(home: Home) -> None:
    missing = DatasetFile(path="a", size_bytes=1, digest=digest_of(b"y"))
    with pytest.raises(Conflict, match="1 files"):
        await keep_manifest(home.space, manifest_of([missing]))
    assert home.space.files == {}


async def test_a_version_has_its_origin_and_its_manifest(home: Home) -> None:
    await home.push("raw", b"r")
    manifest = await read_manifest(home.space, resolve(home.snapshot, "default", "raw").manifest)
    digest = await keep_manifest(home.space, manifest)
    origin = DatasetOrigin(job="clean", attempt=2, inputs=("raw@1",))
    made = new_version(home.snapshot, "default", "out", manifest, digest, created_by="clean", origin=origin)
    *_, version = await home.store.write(made.writes)
    assert (version.name, version.spec.origin.inputs, version.spec.files) == ("out@1", ("raw@1",), 1)
    with pytest.raises(Conflict):  # made of what is not so any more
        await home.store.write(made.writes)


async def test_references_that_mean_nothing_say_what_exists(home: Home) -> None:
    with pytest.raises(InvalidInput, match="no dataset 'shop'"):
        resolve(home.snapshot, "default", "shop") if await home.versions() == [] else None
    await home.push("shop", b"1")
    for text, problem in (("shop@2", "no version 2"), ("shop@prod", "no label 'prod'"), ("Shop", "not a reference")):
        with pytest.raises(InvalidInput, match=problem):
            resolve(home.snapshot, "default", text)
