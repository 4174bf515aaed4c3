"""An API for one test, over a store in memory, real blobs and a real vault."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from tests.plans import keep_plan

from kaon.api.app import create_app
from kaon.build import archive
from kaon.build.archive import pack
from kaon.clock import FakeClock
from kaon.settings import Settings
from kaon.store.blobs import FileBlobs
from kaon.store.memory import MemoryStore
from kaon.store.port import Store
from kaon.store.vault import Vault
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, RevisionSpec, Template, template_hash
from kaon.types.key import Access, KeySpec, Role, key_hash
from kaon.types.plan import Plan, Report
from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus, replica_id
from kaon.types.resource import Key
from kaon.types.service import EndpointSpec, ServiceSpec
from kaon.types.workspace import WorkspaceSpec

SOURCE = b"import kaon\n"


def artifact_bytes(source: bytes = SOURCE) -> bytes:
    """A small artifact as `kaon build` would make it."""
    entry = FileEntry(path="src/app.py", size_bytes=len(source), sha256=hashlib.sha256(source).hexdigest())
    service = ServiceSpec(
        name="Echo", entry="app:Echo", endpoints=(EndpointSpec(name="echo", method="POST", path="/echo"),)
    )
    out = io.BytesIO()
    pack(Manifest(kaon="0", python="3.11", service=service, files=(entry,)), {"src/app.py": source}, out)
    return out.getvalue()


def packed(manifest: bytes) -> bytes:
    """An artifact without files and with any bytes as its manifest."""
    out = io.BytesIO()
    empty = Manifest(kaon="0", python="3.11", service=ServiceSpec(name="a", entry="a:A"), files=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "canonical_json", lambda _: manifest)
        archive.pack(empty, {}, out)
    return out.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


DIGEST = digest_of(artifact_bytes())
OTHER = digest_of(b"the artifact of another deployment")


@dataclass
class World:
    """The API and what is behind it."""

    app: FastAPI
    store: Store
    blobs: FileBlobs
    vault: Vault
    settings: Settings
    clock: FakeClock
    exits: AsyncExitStack
    keys: dict[str, str] = field(default_factory=dict)

    def client(self, key: str | None = None, peer: str = "10.0.0.1", **options: Any) -> httpx2.AsyncClient:
        """A client at the address `peer` with `key`."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app, client=(peer, 1)),
            base_url="http://localhost/api/v1",
            headers=headers | options.pop("headers", {}),
            **options,
        )

    async def key(self, name: str, role: Role = Role.ADMIN, *, home: str = "default", **spec: Any) -> str:
        """Create a key in the store; returns its text."""
        text = f"kaon_{home}_{name}_{'x' * 30}"
        made = KeySpec(hash=key_hash(text), hint=text[:9], role=role, **spec)
        await self.store.create("key", home, name, made)
        self.keys[name] = text
        return text

    async def resource_of_key(self, name: str, home: str = "default") -> Key:
        return await self.store.get("key", home, name)


@asynccontextmanager
async def world_of(home: Path, store: Store | None = None) -> AsyncIterator[World]:
    """An API over an empty store with the workspace `default` and an admin of every workspace, `root`."""
    settings = Settings(home=home, port=8080)
    clock = FakeClock()
    store = store or MemoryStore(clock)
    blobs, vault = FileBlobs(home / "blobs"), Vault(b"k" * 32)
    app = create_app(store=store, blobs=blobs, vault=vault, settings=settings, clock=clock)
    async with AsyncExitStack() as exits:
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("kaon.api.keyring.STORE_PATIENCE_S", 30.0)  # a busy machine is no store that is away
        await store.open()
        exits.push_async_callback(store.close)
        await exits.enter_async_context(app.router.lifespan_context(app))
        world = World(app, store, blobs, vault, settings, clock, exits)
        await store.create("workspace", "", "default", WorkspaceSpec())
        await world.key("root")
        yield world


UID = "0123456789abcdef"
REPLICA = replica_id("default", UID, 1, 0)
"""The replica of `web` when the store is in memory."""


async def populate(world: World, workspace: str = "default", cloud: str = "local") -> None:
    """A running deployment `web` with a secret, its plan and a report in one cloud."""
    async with world.client(world.keys["root"]) as root:
        for answer in (
            await root.post(f"/workspaces/{workspace}/artifacts", content=artifact_bytes()),
            await root.put(f"/workspaces/{workspace}/secrets/token", json={"value": "a-canary-of-a-secret"}),
        ):
            assert answer.is_success, answer.text
    template = Template(artifact=DIGEST, secrets={"TOKEN": "token"})
    web = await world.store.create("deployment", workspace, "web", DeploymentSpec(template=template))
    if isinstance(world.store, MemoryStore):
        world.store._resources["deployment", workspace, "web"] = web.model_copy(update={"uid": UID})
    await world.store.create("deployment", workspace, "other", DeploymentSpec(template=Template(artifact=OTHER)))
    revision = RevisionSpec(deployment="web", number=1, template=template, template_hash=template_hash(template))
    await world.store.create("revision", workspace, "web-1", revision)
    identity = world.vault.seal(workspace, "identity-web", "kaon_identity_of_web")
    await world.store.create("secret", workspace, "identity-web", identity)
    names = {"id": REPLICA, "name": "web-1-0", "workspace": workspace, "deployment": "web", "revision": 1}
    replica = ReplicaSpec(**names, ordinal=0, artifact=DIGEST, secrets=("TOKEN", "KAON_KEY"))
    plan = Plan(cloud=cloud, replicas=(replica,), access={f"{workspace}/other": Access()})
    name = await keep_plan(world.store, plan)
    report = Report(cloud=cloud, plan=name, replicas=(ReplicaStatus(**names, phase=Phase.READY),))
    await world.store.create("cloud", "", cloud, CloudSpec(), CloudStatus(report=report, seen_at=world.clock.now()))
