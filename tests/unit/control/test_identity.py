"""The keys of services: one for each revision that can serve, and what becomes of them when others end."""

from __future__ import annotations

from typing import Any

import pytest
from tests.replicas import status_of

from kaon.clock import FakeClock
from kaon.control.deployments import DeploymentController
from kaon.store.memory import MemoryStore
from kaon.store.port import AnyResource, Change
from kaon.store.vault import Vault
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Shadow, Template
from kaon.types.event import EventLevel
from kaon.types.key import KeySpec, KeyStatus, Priority, Role, identity_deployment, key_hash
from kaon.types.plan import Report
from kaon.types.replica import Phase
from kaon.types.service import EndpointSpec, ServiceSpec

SHOP = ("default", "shop")
USES: dict[str, tuple[str, ...] | None] = {"old": None, "none": (), "mail": ("mail",), "both": ("mail", "pay")}
DIGESTS = {name: f"sha256:{n:064x}" for n, name in enumerate(USES)}


class Platform:
    """A store with one cloud and the reconciler of deployments."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.vault = Vault(bytes(32))
        self.reconciler = DeploymentController(self.store, self.vault, self.clock)
        self.running: set[int] = set()

    async def make(self) -> None:
        await self.store.create("cloud", "", "local", CloudSpec())
        for name, uses in USES.items():
            endpoint = EndpointSpec(name="echo", method="POST", path="/echo")
            service = ServiceSpec(name="shop", entry="s:S", endpoints=(endpoint,), uses=uses)
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            spec = ArtifactSpec(digest=DIGESTS[name], size_bytes=1, manifest=manifest)
            await self.store.create("artifact", "default", DIGESTS[name], spec)

    async def key(self, name: str, **spec: Any) -> AnyResource:
        made = KeySpec(hash=key_hash(name), hint="kaon_", role=Role.EDITOR, workspace="default", **spec)
        return await self.store.create("key", "default", name, made)

    async def deploy(self, artifact: str, owner: AnyResource | None = None, **spec: Any) -> None:
        wanted = DeploymentSpec(
            template=Template(artifact=DIGESTS[artifact]),
            scaling=Scaling(min=1, max=1),
            owner=owner.name if owner else "",
            owner_uid=owner.uid if owner else "",
            **spec,
        )
        found = await self.store.find("deployment", *SHOP)
        if found is None:
            await self.store.create("deployment", *SHOP, wanted)
        else:
            await self.store.update_spec(found, wanted)

    async def settle(self, *extra: int) -> AnyResource:
        """Let every assigned replica be ready, and one of each revision in `extra` drain; look until at rest."""
        version = -1
        while version != await self.store.version():
            version = await self.store.version()
            await self.reconciler.reconcile(SHOP)
            if (shop := await self.store.find("deployment", *SHOP)) is None:
                break
            assigned = [(a.revision, o, Phase.READY) for a in shop.status.rollout.assignments for o in a.ordinals]
            seen = [status_of(shop.uid, *one) for one in [*assigned, *((n, 9, Phase.DRAINING) for n in extra)]]
            cloud = await self.store.get("cloud", "", "local")
            status = CloudStatus(report=Report(cloud="local", replicas=tuple(seen)))
            await self.store.update_status(cloud, status)
        return shop

    async def own(self) -> dict[str, tuple[str, ...] | None]:
        """The services' own keys, and what each may call."""
        keys = [k for k in await self.store.list_all("key") if identity_deployment(k.name)]
        secrets = {s.name for s in await self.store.list_all("secret")}
        assert {k.name for k in keys} == secrets
        return {k.name: k.spec.deployments for k in keys}

    async def text(self, number: int) -> str:
        name = f"identity-shop.{number}"
        return self.vault.open("default", name, (await self.store.get("secret", "default", name)).spec)


@pytest.fixture
async def platform() -> Platform:
    made = Platform()
    await made.make()
    return made


async def test_a_revision_has_a_key_of_its_own_for_what_its_artifact_declares(platform: Platform) -> None:
    await platform.deploy("mail")
    await platform.settle()
    assert await platform.own() == {"identity-shop.1": ("mail",)}


async def test_no_revision_gets_the_key_of_another_and_each_ends_with_its_last_replica(platform: Platform) -> None:
    await platform.deploy("both")
    await platform.settle()
    first = await platform.text(1)
    await platform.deploy("mail")
    await platform.settle(1)
    assert await platform.own() == {"identity-shop.1": ("mail", "pay"), "identity-shop.2": ("mail",)}
    assert await platform.text(2) != first
    await platform.settle()
    assert await platform.own() == {"identity-shop.2": ("mail",)}
    await platform.deploy("both")
    await platform.settle()
    assert await platform.text(1) != first, "what the code of revision 1 was given before opens nothing"


async def test_a_shadow_has_one_too(platform: Platform) -> None:
    await platform.deploy("none", shadow=Shadow(template=Template(artifact=DIGESTS["mail"])))
    await platform.settle()
    assert await platform.own() == {"identity-shop.1": (), "identity-shop.2": ("mail",)}


async def test_artifacts_of_an_older_kaon_share_a_key_that_ends_with_the_last_of_them(platform: Platform) -> None:
    ci = await platform.key("ci")
    await platform.deploy("old", ci)
    await platform.settle()
    assert await platform.own() == {"identity-shop": None}
    assert (await platform.store.get("key", "default", "identity-shop")).spec.owner_uid == ci.uid
    await platform.deploy("mail", ci)
    await platform.settle(1)
    assert await platform.own() == {"identity-shop": None, "identity-shop.2": ("mail",)}
    await platform.settle()
    assert await platform.own() == {"identity-shop.2": ("mail",)}


@pytest.mark.parametrize("seen_before", [True, False])
async def test_all_keys_end_with_the_deployment(platform: Platform, seen_before: bool) -> None:
    await platform.deploy("old")
    await platform.settle()
    await platform.deploy("mail")
    shop = await platform.settle(1)
    await platform.store.delete(shop)
    if not seen_before:
        platform.reconciler = DeploymentController(platform.store, platform.vault, platform.clock)
    assert SHOP in await platform.reconciler.keys()
    await platform.reconciler.reconcile(SHOP)
    assert await platform.own() == {}


ENDS = ("revoked", "expired", "deleted", "maker revoked")


@pytest.mark.parametrize("how", ENDS)
async def test_services_go_on_without_their_owner_and_say_so_until_one_adopts_them(
    platform: Platform, how: str
) -> None:
    boss = await platform.key("boss")
    ci = await platform.key("ci", owner_uid=boss.uid, expires_at=platform.clock.now() + 10)
    await platform.deploy("mail", ci)
    shop = await platform.settle()
    assert "OwnerGone" not in {c.type for c in shop.status.conditions}
    before, text, version = await platform.own(), await platform.text(1), await platform.store.version()
    match how:
        case "revoked":
            await platform.store.update_status(ci, KeyStatus(revoked_at=1))
        case "expired":
            platform.clock.jump(10)
        case "deleted":
            await platform.store.delete(ci)
        case _:
            await platform.store.update_status(boss, KeyStatus(revoked_at=1))
    changes = [Change(version=version + 1, kind="key", workspace="default", name="ci")]
    assert how == "expired" or await platform.reconciler.affected(changes) == {SHOP}
    shop = await platform.settle()
    gone = next(c for c in shop.status.conditions if c.type == "OwnerGone")
    assert (gone.holds, "'ci'" in gone.reason, "kaon adopt shop" in gone.reason) == (True, True, True)
    assert (await platform.own(), await platform.text(1)) == (before, text)
    events = await platform.store.events("default")
    assert [e.level for e in events if e.reason == "OwnerGone"] == [EventLevel.WARNING]

    admin = await platform.key("admin")
    await platform.deploy("mail", admin)
    shop = await platform.settle()
    assert "OwnerGone" not in {c.type for c in shop.status.conditions}
    assert await platform.text(1) == text


async def test_the_calls_of_a_service_go_as_late_as_its_deployers(platform: Platform) -> None:
    low = await platform.key("low", priority=Priority.LOW)
    await platform.deploy("mail", low)
    await platform.settle()
    await platform.store.update_status(low, KeyStatus(revoked_at=1))
    await platform.deploy("none", await platform.key("ci"))
    await platform.settle(1)
    keys = {k.name: k.spec.priority for k in await platform.store.list_all("key") if identity_deployment(k.name)}
    assert keys == {"identity-shop.1": Priority.LOW, "identity-shop.2": Priority.NORMAL}
