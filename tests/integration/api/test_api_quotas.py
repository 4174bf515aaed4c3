"""What a workspace may hold, and what one of its artifacts costs everybody."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kaon.api.quotas import ENDED_PER_KEY
from kaon.build.archive import pack
from kaon.clock import FakeClock
from kaon.store import open_store
from kaon.store.records import assemble
from kaon.types.artifact import ArtifactSpec, FileEntry, Manifest
from kaon.types.service import EndpointSpec, ServiceSpec

from .world import SOURCE, World, artifact_bytes, digest_of, world_of

FILES = 300


def fat_artifact(number: int) -> bytes:
    """Some kilobytes that unpack to a manifest of two hundred."""
    sources = {f"src/{number}/{'x' * 80}{n}.py": SOURCE for n in range(FILES)}
    sha256 = hashlib.sha256(SOURCE).hexdigest()
    files = tuple(FileEntry(path=path, size_bytes=len(SOURCE), sha256=sha256) for path in sorted(sources))
    endpoint = EndpointSpec(name="echo", method="POST", path="/echo")
    openapi = {"paths": {f"/{n}": {"get": {"summary": "x" * 100}} for n in range(1000)}}
    service = ServiceSpec(name="Echo", entry="app:Echo", endpoints=(endpoint,), openapi=openapi)
    out = io.BytesIO()
    pack(Manifest(kaon="0", python="3.11", service=service, files=files), sources, out)
    return out.getvalue()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path, open_store(f"sqlite:///{tmp_path / 'kaon.db'}", FakeClock())) as made:
        yield made


def allow(world: World, **quotas: int) -> None:
    parts = world.app.state.context
    world.app.state.context = dataclasses.replace(parts, settings=parts.settings.model_copy(update=quotas))


async def bring(client: httpx2.AsyncClient, data: bytes, ws: str = "default") -> httpx2.Response:
    return await client.post(f"/workspaces/{ws}/artifacts", content=data)


async def test_a_row_has_what_planning_needs_and_the_whole_manifest_is_read_when_it_is_shown(world: World) -> None:
    data = fat_artifact(1)
    async with world.client(world.keys["root"]) as root:
        brought = (await bring(root, data)).json()
        shown = (await root.get(f"/workspaces/default/artifacts/{digest_of(data)}")).json()
        listed = (await root.get("/workspaces/default/artifacts")).text
    row = await world.store.get("artifact", "default", digest_of(data))
    assert len(row.spec.model_dump_json()) < 2_000
    assert len(listed) < 3_000
    assert [e.name for e in row.spec.manifest.service.endpoints] == ["echo"]
    assert shown == brought
    assert len(shown["spec"]["manifest"]["files"]) == FILES
    assert len(shown["spec"]["manifest"]["service"]["openapi"]["paths"]) == 1000


async def test_what_is_kept_of_many_small_uploads_is_small(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        for number in range(5):
            assert (await bring(root, fat_artifact(number))).status_code == 201
    rows = await world.store.list_all("artifact")
    assert len(rows) == 5
    assert sum(len(row.model_dump_json()) for row in rows) < 5 * 2_000
    assert sum(file.stat().st_size for file in (world.settings.home / "blobs").iterdir()) < 5 * 2**20


async def test_a_row_of_an_older_kaon_is_shown_as_it_is(world: World) -> None:
    data = fat_artifact(1)
    async with world.client(world.keys["root"]) as root:
        whole = (await bring(root, data)).json()["spec"]
        made = await world.store.get("artifact", "default", digest_of(data))
        await world.store.update_spec(made, ArtifactSpec.model_validate(whole))
        assert (await root.get(f"/workspaces/default/artifacts/{digest_of(data)}")).json()["spec"] == whole


MADE = {
    "artifact": lambda root, n: bring(root, artifact_bytes(f"n = {n}\n".encode())),
    "secret": lambda root, n: root.put(f"/workspaces/default/secrets/s-{n}", json={"value": "x"}),
    "key": lambda root, n: root.post("/workspaces/default/keys", json={"name": f"k-{n}", "role": "viewer"}),
    "deployment": lambda root, n: root.put(
        f"/workspaces/default/deployments/d-{n}", json={"template": {"artifact": digest_of(artifact_bytes())}}
    ),
}


@pytest.mark.parametrize("kind", MADE)
async def test_a_quota_of_a_kind_is_enforced_with_the_way_to_make_room(world: World, kind: str) -> None:
    async with world.client(world.keys["root"]) as root:
        await bring(root, artifact_bytes())
        there = len(await world.store.list_all(kind, "default"))
        allow(world, **{f"most_{kind}s": there + 2})
        answers = [await MADE[kind](root, n) for n in range(3)]
        assert [answer.is_success for answer in answers] == [True, True, False]
        refused: dict[str, Any] = answers[-1].json()
        assert (refused["status"], refused["code"]) == (409, "quota-reached")
        assert f"KAON_MOST_{kind.upper()}S" in refused["hint"]
        assert "kaon " in refused["hint"]
        assert (await MADE[kind](root, 0)).status_code in (200, 201, 409)
        assert len(await world.store.list_all(kind, "default")) == there + 2
        if kind != "key":
            assert (await MADE[kind](root, 0)).is_success, "what is there already is no more of it"


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_key_that_has_ended_makes_room_at_once(world: World, end: str) -> None:
    async with world.client(world.keys["root"]) as root:
        there = len(await world.store.list_all("key", "default"))
        allow(world, most_keys=there + 1)
        ends = {"expires_at": world.clock.now() + 3600}
        made = await root.post("/workspaces/default/keys", json={"name": "k-0", "role": "viewer", **ends})
        assert made.is_success, made.text
        assert not (await MADE["key"](root, 1)).is_success
        if end == "revoked":
            assert (await root.delete("/workspaces/default/keys/k-0")).is_success
        else:
            await world.clock.advance(3601)
        assert (await MADE["key"](root, 1)).is_success
        assert not (await MADE["key"](root, 2)).is_success


async def test_keys_that_have_ended_have_a_bound_too(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        there = len(await world.store.list_all("key", "default"))
        most = there + 1
        allow(world, most_keys=most)
        made = 0
        while made < 20 * most and (await MADE["key"](root, made)).is_success:
            await root.delete(f"/workspaces/default/keys/k-{made}")
            made += 1
        assert made == most * ENDED_PER_KEY + 1


async def test_services_own_keys_do_not_count_against_the_quota(world: World) -> None:
    for kind, n in (("key", 1), ("key", 2)):
        spec = (await world.resource_of_key("root")).spec
        await world.store.create(kind, "default", f"identity-d-{n}", spec.model_copy(update={"hash": f"{n:064x}"}))
    allow(world, most_keys=2)
    async with world.client(world.keys["root"]) as root:
        assert (await MADE["key"](root, 1)).is_success
        assert not (await MADE["key"](root, 2)).is_success


async def test_artifacts_have_so_many_bytes_and_room_is_made_by_taking_some_away(world: World) -> None:
    first, second = artifact_bytes(b"a = 1\n"), artifact_bytes(b"b = 1\n")
    allow(world, most_artifact_bytes=len(first) + len(second) - 1)
    async with world.client(world.keys["root"]) as root:
        assert (await bring(root, first)).status_code == 201
        refused = await bring(root, second)
        assert refused.json()["code"] == "quota-reached"
        assert not await world.blobs.has(digest_of(second))
        assert (await bring(root, first)).status_code == 200
        assert (await root.delete(f"/workspaces/default/artifacts/{digest_of(first)}")).status_code == 204
        assert not await world.blobs.has(digest_of(first))
        assert (await bring(root, second)).status_code == 201


async def test_an_artifact_that_something_is_made_of_stays(world: World) -> None:
    digest = digest_of(artifact_bytes())
    async with world.client(world.keys["root"]) as root:
        await bring(root, artifact_bytes())
        await MADE["deployment"](root, 1)
        answer = await root.delete(f"/workspaces/default/artifacts/{digest}")
        assert answer.status_code == 409
        assert "d-1" in answer.json()["detail"]
        await root.delete("/workspaces/default/deployments/d-1")
        assert (await root.delete(f"/workspaces/default/artifacts/{digest}")).status_code == 204
        assert (await root.delete(f"/workspaces/default/artifacts/{digest}")).status_code == 404


async def test_bytes_stay_as_long_as_another_workspace_has_them(world: World) -> None:
    data = artifact_bytes()
    async with world.client(world.keys["root"]) as root:
        await root.post("/workspaces", json={"name": "shop"})
        for ws in ("default", "shop"):
            await bring(root, data, ws)
        assert (await root.delete(f"/workspaces/default/artifacts/{digest_of(data)}")).status_code == 204
        assert await world.blobs.has(digest_of(data))
        assert (await root.delete("/workspaces/shop")).status_code == 204
        assert not await world.blobs.has(digest_of(data))


async def test_variables_of_a_deployment_are_bounded_together(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        await bring(root, artifact_bytes())
        env = {f"V{n}": "x" * 60_000 for n in range(3)}
        spec = {"template": {"artifact": digest_of(artifact_bytes()), "env": env}}
        answer = await root.put("/workspaces/default/deployments/web", json=spec)
    assert answer.status_code == 422
    assert "131,072 bytes together" in answer.json()["detail"]


def test_a_row_with_fewer_fields_than_this_version_has_is_read() -> None:
    manifest = Manifest(kaon="0", python="3.11", service=ServiceSpec(name="E", entry="a:E"), files=())
    spec = ArtifactSpec(digest=f"sha256:{'0' * 64}", size_bytes=1, manifest=manifest).model_dump_json()
    fields = {"version": 1, "generation": 1, "created_at": 0, "updated_at": 0, "uid": "u"}
    assert assemble("artifact", spec, None, workspace="default", name="x", **fields).spec.manifest == manifest
