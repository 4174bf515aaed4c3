"""Resumable uploads over HTTP, and the artifacts that are made of them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tests.waiting import until

from kaon.build.archive import pack
from kaon.store.uploads import UploadBounds, Uploads
from kaon.types.artifact import Consent, FileEntry, Manifest
from kaon.types.key import Role
from kaon.types.service import ServiceSpec

from .world import World, artifact_bytes, digest_of, world_of

DATA = artifact_bytes(b"x = 1\n")
DIGEST = digest_of(DATA)
UPLOAD = f"/workspaces/default/uploads/{DIGEST}"
ARTIFACT = f"/workspaces/default/artifacts/{DIGEST}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        yield made


@pytest.fixture
async def root(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.client(world.keys["root"]) as client:
        yield client


async def put(
    client: httpx2.AsyncClient, data: bytes, *, offset: int = 0, size: int = len(DATA), path: str = UPLOAD
) -> Any:
    answer = await client.put(path, params={"size": size, "offset": offset}, content=data)
    return answer.json() if answer.is_success else answer


async def test_an_artifact_is_uploaded_in_parts(root: httpx2.AsyncClient, world: World) -> None:
    assert (await root.get(UPLOAD)).json() == {"digest": DIGEST, "received_bytes": 0, "is_complete": False}
    assert (await put(root, DATA[:100]))["received_bytes"] == 100
    assert (await root.put(ARTIFACT)).status_code == 404
    assert (await root.get(UPLOAD)).json()["received_bytes"] == 100
    assert (await put(root, DATA[100:], offset=100))["is_complete"]
    made = await root.put(ARTIFACT)
    assert (made.status_code, made.json()["name"]) == (201, DIGEST)
    assert b"".join([chunk async for chunk in world.blobs.read(DIGEST)]) == DATA
    assert (await root.get(UPLOAD)).json()["received_bytes"] == 0, "what was used is no upload any more"
    again = await root.put(ARTIFACT)
    assert (again.status_code, again.json()["spec"]) == (200, made.json()["spec"])


async def test_bytes_that_are_no_artifact_are_refused_and_stay_an_upload(root: httpx2.AsyncClient) -> None:
    bad = b"not an artifact"
    await put(root, bad, size=len(bad), path=f"/workspaces/default/uploads/{digest_of(bad)}")
    refused = await root.put(f"/workspaces/default/artifacts/{digest_of(bad)}")
    assert refused.status_code == 400
    assert "This is not an artifact" in refused.json()["detail"]
    assert (await root.get("/workspaces/default/artifacts")).json()["items"] == []


async def test_damaged_bytes_are_uploaded_again(root: httpx2.AsyncClient, world: World) -> None:
    await put(root, DATA)
    await root.put(ARTIFACT)
    file = world.settings.home / "blobs" / DIGEST.removeprefix("sha256:")
    file.write_bytes(b"x" + DATA[1:])
    assert (await root.put(ARTIFACT)).status_code == 404
    await put(root, DATA)
    assert (await root.put(ARTIFACT)).status_code == 200
    assert file.read_bytes() == DATA


async def test_who_knows_a_digest_only_gets_nothing_of_another_workspace(
    root: httpx2.AsyncClient, world: World
) -> None:
    await root.post("/workspaces", json={"name": "other"})
    await put(root, DATA)
    theirs = ARTIFACT.replace("default", "other")
    assert (await root.put(theirs)).status_code == 404
    await root.put(ARTIFACT)
    assert (await root.put(theirs)).status_code == 404
    assert (await root.get(UPLOAD.replace("default", "other"))).json()["received_bytes"] == 0
    some = await world.key("other", Role.EDITOR, home="other", workspace="other")
    async with world.client(some) as stranger:
        assert (await stranger.get(UPLOAD)).status_code == 404
        assert (await stranger.put(UPLOAD, params={"size": 1}, content=b"x")).status_code == 404


async def test_a_key_for_some_deployments_gets_nothing_of_what_other_keys_uploaded(
    root: httpx2.AsyncClient, world: World
) -> None:
    await put(root, DATA)
    some = await world.key("some", Role.EDITOR, workspace="default", deployments=("web",))
    async with world.client(some) as scoped:
        for _ in range(2):
            assert (await scoped.get(UPLOAD)).json()["received_bytes"] == 0
            assert (await scoped.put(ARTIFACT)).status_code == 404
            await root.put(ARTIFACT)
        await put(scoped, DATA)
        assert (await scoped.put(ARTIFACT)).status_code == 200


async def test_a_workspace_that_is_made_again_does_not_get_the_uploads_of_the_one_before(
    root: httpx2.AsyncClient,
) -> None:
    theirs = UPLOAD.replace("default", "other")
    await root.post("/workspaces", json={"name": "other"})
    await put(root, DATA[:9], path=theirs)
    await root.delete("/workspaces/other")
    await root.post("/workspaces", json={"name": "other"})
    assert (await root.get(theirs)).json()["received_bytes"] == 0


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ({"size": 4, "offset": 1}, b"x", 409),
        ({"size": 4, "offset": 5}, b"x", 400),
        ({"size": 4}, b"other", 400),
        ({"size": 4}, b"othe", 400),
        ({"size": -1}, b"", 422),
        ({"size": 2**51}, b"", 422),
        ({"offset": 0}, b"", 422),
        ({"size": 4, "sise": 4}, b"x", 400),
        ({"size": 2**50}, b"", 507),
    ],
)
async def test_what_cannot_be_right_is_refused(
    root: httpx2.AsyncClient, query: dict[str, int], body: bytes, status: int, world: World
) -> None:
    uploads = Uploads(world.settings.home / "uploads", UploadBounds(9, 2**60, 9), world.clock)
    world.app.state.context = dataclasses.replace(world.app.state.context, uploads=uploads)
    assert (await root.put(UPLOAD, params=query, content=body)).status_code == status
    assert (await root.get(UPLOAD)).json()["received_bytes"] == 0


@pytest.mark.parametrize("digest", ["sha256:x", "x" * 64, "sha256:" + "A" * 64, "..%2f..%2fsecret.key"])
async def test_a_name_that_is_no_digest_is_refused(root: httpx2.AsyncClient, digest: str) -> None:
    path = f"/workspaces/default/uploads/{digest}"
    assert (await root.put(path, params={"size": 1}, content=b"x")).status_code in (404, 422)
    assert (await root.get(path)).status_code in (404, 422)


async def test_interrupted_uploads_are_listed_as_garbage_and_collected(root: httpx2.AsyncClient, world: World) -> None:
    world.clock.jump(time.time() - world.clock.now())
    await put(root, DATA[:100])
    assert (await root.get("/gc")).json()["blobs"] == 0
    world.clock.jump(86_400)
    found = (await root.get("/gc")).json()
    assert (found["blobs"], found["blob_bytes"]) == (1, 100)
    assert (await root.post("/gc")).json()["blobs"] == 1
    assert (await root.get(UPLOAD)).json()["received_bytes"] == 0


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    """The API on a real port."""
    server = uvicorn.Server(uvicorn.Config(world.app, port=0, log_level="critical", lifespan="off"))
    task = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def test_a_connection_that_is_cut_in_the_middle_costs_only_what_had_not_arrived(
    world: World, root: httpx2.AsyncClient, port: int
) -> None:
    data = secrets.token_bytes(5 * 2**20)
    path = f"/workspaces/default/uploads/{digest_of(data)}"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"PUT /api/v1{path}?size={len(data)} HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {world.keys['root']}\r\ncontent-length: {len(data)}\r\n\r\n"
    )

    async def received() -> int:
        return int((await root.get(path)).json()["received_bytes"])

    writer.write(head.encode() + data[: 3 * 2**20])
    await until(received, "some bytes arrive while the request lasts")
    writer.close()

    async def continued() -> bool:
        offset = await received()
        assert 2**20 <= offset <= len(data)
        answer = await put(root, data[offset:], offset=offset, size=len(data), path=path)
        return isinstance(answer, dict) and bool(answer["is_complete"])

    await until(continued, "the upload is complete")


# Pickles


def pickled(**manifest: Any) -> bytes:
    content = b"\x80\x04]\x94."
    entry = FileEntry(path="src/model.pkl", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    service = ServiceSpec(name="Echo", entry="app:Echo")
    given = Manifest(kaon="0", python="3.11", service=service, files=(entry,), **manifest)
    out = io.BytesIO()
    pack(given, {"src/model.pkl": content}, out)
    return out.getvalue()


@pytest.mark.parametrize("in_one_request", [True, False])
async def test_pickles_are_named_by_the_artifact_an_event_and_the_audit(
    root: httpx2.AsyncClient, in_one_request: bool
) -> None:
    data = pickled(allowed=(Consent.PICKLE,), pickles=("model.pkl",))
    digest = digest_of(data)
    if in_one_request:
        made = await root.post("/workspaces/default/artifacts", content=data)
    else:
        await put(root, data, size=len(data), path=f"/workspaces/default/uploads/{digest}")
        made = await root.put(f"/workspaces/default/artifacts/{digest}")
    assert made.status_code == 201, made.text
    [listed] = (await root.get("/workspaces/default/artifacts")).json()["items"]
    assert listed["spec"]["manifest"]["pickles"] == ["model.pkl"]
    records = (await root.get("/audit", params={"kind": "artifact"})).json()["items"]
    assert [(r["verb"], r["name"], r["actor"]) for r in records] == [
        ("allow-pickle", digest, "root"),
        ("upload", digest, "root"),
    ]
    [event] = (await root.get("/workspaces/default/events", params={"kind": "artifact"})).json()["items"]
    assert (event["reason"], event["name"]) == ("PicklesPacked", digest)
    assert "model.pkl" in event["message"]


@pytest.mark.parametrize(
    ("manifest", "cause"),
    [
        ({"pickles": ("model.pkl",)}, "did not allow"),
        ({"allowed": (Consent.PICKLE,), "pickles": ("other\x1b[31m",)}, "not in the artifact"),
    ],
)
async def test_a_manifest_with_wrong_pickles_is_refused(
    root: httpx2.AsyncClient, manifest: dict[str, Any], cause: str
) -> None:
    refused = await root.post("/workspaces/default/artifacts", content=pickled(**manifest))
    assert refused.status_code == 400
    assert cause in refused.json()["detail"]
