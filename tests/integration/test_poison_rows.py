"""A row of any kind that cannot be read, written directly to the database: all else works, and the row is named."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from tests.waiting import until

from kaon.api.app import create_app
from kaon.clock import SystemClock
from kaon.control import Controllers
from kaon.settings import Settings
from kaon.store import open_store
from kaon.store.blobs import FileBlobs
from kaon.store.live_status import LiveStatus
from kaon.store.plans import StoredPlans
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.key import KeySpec, Role, key_hash
from kaon.types.plan import Plan, Report
from kaon.types.secret import SecretSpec
from kaon.types.service import ServiceSpec
from kaon.types.workspace import WorkspaceSpec

ROOT = "kaon_root_of_the_test_of_poison_rows"
VAULT = Vault(b"k" * 32)
NAMES = ("good", "odd", "well")
DIGESTS = {name: f"sha256:{number:064x}" for number, name in enumerate(NAMES)}
SPARE = f"sha256:{9:064x}"

ROWS = {
    "workspace": ("", "team"),
    "artifact": ("default", DIGESTS["odd"]),
    "deployment": ("default", "odd"),
    "revision": ("default", "odd-1"),
    "key": ("default", "spare"),
    "secret": ("default", "spare"),
    "cloud": ("", "local"),
    "plan": ("", "local"),
}
FAULTS = {
    "corrupt JSON": {"spec": '{"template": '},
    "a missing field": {"spec": "{}", "status": "null"},
    "a wrong type": {"spec": '["nothing", "of", "the", "kind"]', "status": '"text"'},
}


@dataclass
class Platform:
    """A control plane over a database, with its API."""

    store: Store
    snapshot: Snapshot
    live_status: LiveStatus
    ring: TrafficRing
    root: httpx2.AsyncClient
    running: asyncio.Task[None]

    async def plan(self) -> Plan:
        await self.snapshot.at_least(self.store.written)
        found = StoredPlans(self.snapshot).read("local")
        return found.plan if found else Plan(cloud="local")

    async def replicas(self) -> dict[str, int]:
        """How many replicas of each deployment are planned."""
        replicas = (await self.plan()).replicas
        return {name: sum(r.deployment == name for r in replicas) for name in NAMES}


@asynccontextmanager
async def platform(folder: Path) -> AsyncIterator[Platform]:
    clock, live_status, ring = SystemClock(), LiveStatus(), TrafficRing()
    store = open_store(f"sqlite:///{folder / 'kaon.db'}", clock)
    await store.open()
    snapshot = Snapshot(store)
    settings = Settings(home=folder, port=8080)
    app = create_app(
        store=store,
        blobs=FileBlobs(folder / "blobs"),
        vault=VAULT,
        settings=settings,
        clock=clock,
        traffic=ring,
        live_status=live_status,
        snapshot=snapshot,
    )
    controllers = Controllers(store, VAULT, clock, traffic=ring, live_status=live_status, snapshot=snapshot)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(snapshot.run())
            tasks.create_task(controllers.run())

    running = asyncio.create_task(run())
    transport = httpx2.ASGITransport(app=app, client=("10.0.0.1", 1))
    headers = {"authorization": f"Bearer {ROOT}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kaon.api.keyring.STORE_PATIENCE_S", 30.0)  # a busy machine is no store that is away
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=headers) as root,
        ):
            yield Platform(store, snapshot, live_status, ring, root, running)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def settled(it: Platform, count: int, names: tuple[str, ...] = NAMES) -> None:
    async def holds() -> bool:
        planned = await it.replicas()
        return all(planned[name] == count for name in names)

    await until(holds)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three deployments, all planned, and one row of every kind."""
    folder = tmp_path_factory.mktemp("home")

    async def fill() -> None:
        async with platform(folder) as it:
            for name in ("default", "team"):
                await it.store.create("workspace", "", name, WorkspaceSpec())
            await it.store.create("key", "default", "root", KeySpec(hash=key_hash(ROOT), hint="kaon_", role=Role.ADMIN))
            spare = KeySpec(hash="0" * 64, hint="kaon_", role=Role.VIEWER, workspace="default")
            await it.store.create("key", "default", "spare", spare)
            await it.store.create("secret", "default", "spare", SecretSpec(ciphertext="", key_id=""))
            report = CloudStatus(report=Report(cloud="local"), seen_at=SystemClock().now())
            await it.store.create("cloud", "", "local", CloudSpec(), report)
            service = ServiceSpec(name="Web", entry="app:Web")
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            for digest in (*DIGESTS.values(), SPARE):
                artifact = ArtifactSpec(digest=digest, size_bytes=1, manifest=manifest)
                await it.store.create("artifact", "default", digest, artifact)
            for name, digest in DIGESTS.items():
                spec = DeploymentSpec(template=Template(artifact=digest), scaling=Scaling(min=1, max=1))
                await it.store.create("deployment", "default", name, spec)
            await settled(it, 1)

    asyncio.run(fill())
    return folder


def poison(home: Path, folder: Path, kind: str, workspace: str, name: str, columns: dict[str, str]) -> None:
    """A copy of the database at `home` in `folder`, with these columns of a row overwritten."""
    with sqlite3.connect(home / "kaon.db") as source, sqlite3.connect(folder / "kaon.db") as target:
        source.backup(target)
        for column, text in columns.items():
            changed = target.execute(
                f"UPDATE resources SET {column} = ? WHERE kind = ? AND workspace = ? AND name = ?",
                (text, kind, workspace, name),
            )
            assert changed.rowcount == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ROWS)
async def test_a_poison_row_stops_nothing_else_and_is_named(tmp_path: Path, home: Path, kind: str, fault: str) -> None:
    workspace, name = ROWS[kind]
    poison(home, tmp_path, kind, workspace, name, FAULTS[fault])
    async with platform(tmp_path) as it:
        # Reconciled, planned and scaled: the others follow a change of what is wanted, by the spec and by the law.
        for each in ("good", "well"):
            answer = await it.root.post(f"/workspaces/default/deployments/{each}/scale", json={"min": 2, "max": 3})
            assert answer.is_success, answer.text
        await settled(it, 2, ("good", "well"))
        assert (await it.replicas())["odd"] == 1

        async def decided() -> bool:
            return all(it.live_status.of("default", each) is not None for each in ("good", "well"))

        await until(decided)

        # Listed, with the poison row apart and by its name, unless it was made anew.
        answer = await it.root.get("/workspaces/default/deployments")
        assert {"good", "well"} <= {d["name"] for d in answer.json()["items"]}
        listed = [row["name"] for row in answer.json()["unreadable"]]
        assert listed == (["odd"] if kind == "deployment" else [])
        metrics = (await it.root.get("/metrics")).text
        unreadable = 0 if kind in ("cloud", "plan") else 1
        assert f'kaon_unreadable_rows{{kind="{kind}"}} {unreadable}' in metrics
        if kind in ("artifact", "revision"):
            await until(lambda: told(it, name))


async def told(it: Platform, name: str) -> bool:
    """Whether the deployment's own condition names the row that cannot be read."""
    odd = await it.store.get("deployment", "default", "odd")
    return any(c.type == "Unreadable" and c.holds and name in c.reason for c in odd.status.conditions)


DELETED = {
    "deployment": "/workspaces/default/deployments/odd",
    "key": "/workspaces/default/keys/spare",
    "secret": "/workspaces/default/secrets/spare",
    "artifact": f"/workspaces/default/artifacts/{SPARE}",
}


@pytest.mark.parametrize("kind", DELETED)
async def test_a_poison_row_is_told_with_the_way_out_and_can_be_deleted_by_name(
    tmp_path: Path, home: Path, kind: str
) -> None:
    path = DELETED[kind]
    listing, _, name = path.rpartition("/")
    poison(home, tmp_path, kind, "default", name, FAULTS["corrupt JSON"])
    async with platform(tmp_path) as it:
        (row,) = (await it.root.get(listing)).json()["unreadable"]
        assert (row["kind"], row["workspace"], row["name"]) == (kind, "default", name)
        assert row["reason"]
        assert f"kaon rm {kind} {name}" in row["hint"]
        if kind in ("deployment", "artifact"):
            problem = (await it.root.get(path)).json()
            assert (problem["code"], problem["status"]) == ("unreadable", 500)
            assert f"kaon rm {kind} {name}" in problem["hint"]
        answer = await it.root.delete(path)
        assert answer.status_code == 204, answer.text
        assert (await it.root.get(listing)).json()["unreadable"] == []
        if kind == "deployment":
            await settled(it, 0, ("odd",))
            await settled(it, 1, ("good", "well"))
