"""Datasets over the API: pushes, versions, labels, rights, deletions."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kaon.api.held_manifests import HeldManifests
from kaon.types.dataset import DatasetMount, DatasetVersionRef
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.key import Role

from .world import DIGEST, World, world_of

WS = "/workspaces/default"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        yield made


@pytest.fixture
async def root(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.client(world.keys["root"]) as client:
        yield client


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "files": [
            {"path": path, "size_bytes": len(data), "digest": digest(data)} for path, data in sorted(files.items())
        ]
    }


async def begin(client: httpx2.AsyncClient, name: str, files: dict[str, bytes], ws: str = WS) -> Any:
    answer = await client.post(f"{ws}/datasets/{name}/pushes", json=manifest(files))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(
    client: httpx2.AsyncClient, name: str, push: str, files: dict[str, bytes], first: int, count: int, ws: str = WS
) -> httpx2.Response:
    data = b"".join([files[path] for path in sorted(files)][first : first + count])
    where = f"{ws}/datasets/{name}/pushes/{push}/files"
    return await client.put(where, params={"first": first, "count": count}, content=data)


async def create(client: httpx2.AsyncClient, name: str, push: str, ws: str = WS) -> httpx2.Response:
    return await client.post(f"{ws}/datasets/{name}/versions", json={"push": push})


async def push(client: httpx2.AsyncClient, name: str, files: dict[str, bytes], ws: str = WS) -> Any:
    begun = await begin(client, name, files, ws)
    for first, count in begun["missing"]:
        assert (await send(client, name, begun["push"], files, first, count, ws)).status_code == 204
    answer = await create(client, name, begun["push"], ws)
    assert answer.is_success, answer.text
    return answer.json()


FILES = {"a.csv": b"1,2", "b/c.csv": b"", "b/d.csv": b"x" * 300_000, "z": b"1,2"}


async def test_a_push_makes_a_version_with_the_next_number(root: httpx2.AsyncClient) -> None:
    first = await push(root, "shop", FILES)
    second = await push(root, "shop", {**FILES, "new": b"n"})
    assert [first["name"], second["name"]] == ["shop@1", "shop@2"]
    assert (first["spec"]["files"], first["spec"]["size_bytes"]) == (4, 300_006)
    assert second["labels"] == ["latest"]
    shown = (await root.get(f"{WS}/datasets/shop")).json()
    assert (shown["latest"], shown["versions"], shown["size_bytes"]) == (2, 2, 300_007)


async def test_only_what_is_missing_is_sent_and_equal_files_once(root: httpx2.AsyncClient) -> None:
    begun = await begin(root, "shop", FILES)
    assert begun["missing"] == [[0, 3]]  # z is equal to a.csv
    await push(root, "shop", FILES)
    assert (await begin(root, "shop", {**FILES, "n": b"new"}))["missing"] == [[3, 1]]
    assert (await begin(root, "other", FILES))["missing_bytes"] == 0


async def test_equal_files_make_no_other_version(root: httpx2.AsyncClient) -> None:
    await push(root, "shop", FILES)
    begun = await begin(root, "shop", FILES)
    again = await create(root, "shop", begun["push"])
    assert (again.status_code, again.json()["name"]) == (200, "shop@1")


async def test_a_version_of_missing_files_is_refused_and_a_cut_push_goes_on(root: httpx2.AsyncClient) -> None:
    begun = await begin(root, "shop", FILES)
    refused = await create(root, "shop", begun["push"])
    assert (refused.status_code, "not been uploaded" in refused.json()["detail"]) == (409, True)
    assert (await send(root, "shop", begun["push"], FILES, 0, 1)).status_code == 204
    cut = await root.put(
        f"{WS}/datasets/shop/pushes/{begun['push']}/files", params={"first": 1, "count": 2}, content=b"xx"
    )
    assert cut.status_code == 400
    assert (await begin(root, "shop", FILES))["missing"] == [[2, 1]]
    assert (await root.get(f"{WS}/datasets")).json()["items"] == []
    assert (await push(root, "shop", FILES))["name"] == "shop@1"


async def test_bytes_of_other_content_are_never_kept(root: httpx2.AsyncClient) -> None:
    begun = await begin(root, "shop", {"a": b"good"})
    bad = await root.put(
        f"{WS}/datasets/shop/pushes/{begun['push']}/files", params={"first": 0, "count": 1}, content=b"evil"
    )
    assert bad.status_code == 400
    assert (await create(root, "shop", begun["push"])).status_code == 409


async def test_a_server_that_started_anew_is_sent_the_manifest_again(world: World, root: httpx2.AsyncClient) -> None:
    begun = await begin(root, "shop", FILES)
    assert (await send(root, "shop", begun["push"], FILES, 0, 1)).status_code == 204
    context = world.app.state.context
    world.app.state.context = dataclasses.replace(context, pushes=HeldManifests())
    assert (await send(root, "shop", begun["push"], FILES, 1, 2)).status_code == 404
    assert (await begin(root, "shop", FILES))["missing"] == [[1, 2]]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"files": []}, {"files": "a"}, [], {"files": [{"path": "a"}]}, {"files": [], "more": 1}),
        *(manifest({path: b"x"}) for path in ("/a", "../a", "a/../b", "a\n", "a\u202e", "a\\b", "e\u0301", "")),
        {"files": manifest({"a": b"", "b": b""})["files"][::-1]},
        {"files": manifest({"a": b""})["files"] * 2},
        manifest({"a": b"", "a/b": b""}),
    ],
)
async def test_a_bad_manifest_is_refused(root: httpx2.AsyncClient, body: Any) -> None:
    answer = await root.post(f"{WS}/datasets/shop/pushes", json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["hint"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"files": NaN}'])
async def test_a_manifest_that_is_no_json_is_refused(root: httpx2.AsyncClient, body: bytes) -> None:
    assert (await root.post(f"{WS}/datasets/shop/pushes", content=body)).status_code in (400, 422)


async def test_what_is_read_are_the_files_in_any_part(root: httpx2.AsyncClient) -> None:
    await push(root, "shop", FILES)
    where = f"{WS}/dataset-versions/shop@1"
    listed = (await root.get(f"{where}/manifest")).json()
    assert listed == manifest(FILES)
    whole = await root.get(f"{where}/files", params={"first": 0, "count": 4})
    assert whole.content == b"".join(FILES[path] for path in sorted(FILES))
    part = await root.get(f"{where}/files", params={"first": 2, "count": 2, "offset": 299_999})
    assert part.content == b"x1,2"
    assert (await root.get(f"{where}/files", params={"first": 3, "count": 2})).status_code == 422
    assert (await root.get(f"{where}/files", params={"first": 0, "count": 1, "offset": 4})).status_code == 422


async def test_labels_move_and_are_resolved(root: httpx2.AsyncClient) -> None:
    for n in range(3):
        await push(root, "shop", {"a": str(n).encode()})
    labels = f"{WS}/datasets/shop/labels"
    assert (await root.put(f"{labels}/prod", json={"number": 2})).json()["labels"] == {"prod": 2}
    names = {ref: (await root.get(f"{WS}/datasets/shop/versions/{ref}")) for ref in ("latest", "prod", "1", "4", "dev")}
    assert [names[ref].json().get("name") for ref in ("latest", "prod", "1")] == ["shop@3", "shop@2", "shop@1"]
    assert [names[ref].status_code for ref in ("4", "dev")] == [422, 422]
    assert (await root.put(f"{labels}/prod", json={"number": 9})).status_code == 422
    assert (await root.put(f"{labels}/latest", json={"number": 1})).status_code == 422
    assert (await root.put(f"{labels}/prod", json={"number": 3})).json()["labels"] == {"prod": 3}
    events = (await root.get(f"{WS}/events", params={"kind": "dataset", "name": "shop"})).json()["items"]
    assert "Label 'prod' is version 3. It was version 2." in events[-1]["message"]
    assert (await root.delete(f"{labels}/prod")).json()["labels"] == {}


async def test_what_is_needed_is_not_deleted_and_numbers_are_never_given_again(
    world: World, root: httpx2.AsyncClient
) -> None:
    versions = [await push(root, "shop", {"a": str(n).encode()}) for n in range(3)]
    await root.put(f"{WS}/datasets/shop/labels/prod", json={"number": 2})
    ref = DatasetVersionRef(dataset="shop", number=1, manifest=versions[0]["spec"]["manifest"])
    mount = DatasetMount(ref="shop@1", version=ref)
    spec = DeploymentSpec(template=Template(artifact=DIGEST, datasets={"data": mount}))
    web = await world.store.create("deployment", "default", "web", spec)
    for name, why in (("shop@1", "deployment web"), ("shop@2", "label 'prod'")):
        refused = await root.delete(f"{WS}/dataset-versions/{name}")
        assert (refused.status_code, why in refused.json()["detail"]) == (409, True)
    assert (await root.delete(f"{WS}/datasets/shop")).status_code == 409
    assert (await root.delete(f"{WS}/dataset-versions/shop@3")).status_code == 204
    assert (await push(root, "shop", {"a": b"more"}))["name"] == "shop@4"
    await world.store.delete(web)
    assert (await root.delete(f"{WS}/datasets/shop")).status_code == 204
    assert (await root.get(f"{WS}/dataset-versions")).json()["items"] == []


async def test_a_version_shows_what_made_it_and_what_uses_it(world: World, root: httpx2.AsyncClient) -> None:
    version = await push(root, "shop", FILES)
    mount = DatasetMount(ref="shop@latest", version=DatasetVersionRef(dataset="shop", number=1, manifest=DIGEST))
    spec = DeploymentSpec(template=Template(artifact=DIGEST, datasets={"data": mount}))
    await world.store.create("deployment", "default", "web", spec)
    shown = (await root.get(f"{WS}/dataset-versions/shop@1")).json()
    assert shown["used_by"] == ["deployment web"]
    assert version["spec"]["created_by"] == "root"


async def test_a_difference_is_by_path(root: httpx2.AsyncClient) -> None:
    await push(root, "shop", {"a": b"1", "b": b"2"})
    await push(root, "shop", {"b": b"3", "c": b"1"})
    found = (await root.get(f"{WS}/dataset-versions/shop@2/difference", params={"base": "shop@1"})).json()
    paths = {kind: [file["path"] for file in found[kind]] for kind in ("added", "removed", "changed")}
    assert paths == {"added": ["c"], "removed": ["a"], "changed": ["b"]}
    assert (found["added_count"], found["removed_count"], found["changed_count"]) == (1, 1, 1)


async def test_damage_is_found(world: World, root: httpx2.AsyncClient) -> None:
    await push(root, "shop", FILES)
    verify = f"{WS}/dataset-versions/shop@1/verify"
    whole = (await root.post(verify, params={"first": 0, "count": 4})).json()
    assert (whole["files"], whole["damaged"]) == (4, [])
    space = world.settings.home / "blobs" / "spaces" / "default"
    (space / digest(FILES["b/d.csv"]).removeprefix("sha256:")).write_bytes(b"y" * 300_000)
    (space / digest(b"").removeprefix("sha256:")).unlink()
    bad = (await root.post(verify, params={"first": 0, "count": 4})).json()
    assert [file["path"] for file in bad["damaged"]] == ["b/c.csv", "b/d.csv"]
    assert (await push(root, "shop", FILES))["name"] == "shop@1"  # which repairs it
    assert (await root.post(verify, params={"first": 0, "count": 4})).json()["damaged"] == []


async def test_workspaces_do_not_see_each_other(world: World, root: httpx2.AsyncClient) -> None:
    assert (await root.post("/workspaces", json={"name": "other"})).status_code == 201
    await push(root, "shop", FILES)
    theirs = await world.key("theirs", Role.EDITOR, home="other", workspace="other")
    async with world.client(theirs) as client:
        for path in ("datasets", "datasets/shop", "dataset-versions/shop@1/manifest"):
            assert (await client.get(f"{WS}/{path}")).status_code == 404
        # Knowing what is in a file gives nobody a part of it.
        begun = await begin(client, "mine", FILES, "/workspaces/other")
        assert begun["missing"] == [[0, 3]]
        assert (await create(client, "mine", begun["push"], "/workspaces/other")).status_code == 409


async def test_roles_and_keys_for_some_deployments(world: World, root: httpx2.AsyncClient) -> None:
    versions = [await push(root, name, FILES) for name in ("mounted", "hidden")]
    await push(root, "mounted", {"a": b"2"})
    ref = DatasetVersionRef(dataset="mounted", number=1, manifest=versions[0]["spec"]["manifest"])
    template = Template(artifact=DIGEST, datasets={"data": DatasetMount(ref="mounted@1", version=ref)})
    await world.store.create("deployment", "default", "web", DeploymentSpec(template=template))
    viewer = await world.key("viewer", Role.VIEWER, workspace="default")
    some = await world.key("some", Role.EDITOR, workspace="default", deployments=("web",))
    caller = await world.key("caller", Role.CALLER, workspace="default")
    async with world.client(viewer) as client:
        assert len((await client.get(f"{WS}/datasets")).json()["items"]) == 2
        assert (await client.post(f"{WS}/datasets/x/pushes", json=manifest(FILES))).status_code == 403
        assert (await client.put(f"{WS}/datasets/hidden/labels/a", json={"number": 1})).status_code == 403
        assert (await client.delete(f"{WS}/datasets/hidden")).status_code == 403
    async with world.client(caller) as client:
        assert (await client.get(f"{WS}/datasets")).status_code == 403
    async with world.client(some) as client:
        seen = (await client.get(f"{WS}/datasets")).json()["items"]
        assert [(each["name"], each["versions"]) for each in seen] == [("mounted", 1)]
        assert (await client.get(f"{WS}/dataset-versions/mounted@1/manifest")).status_code == 200
        for name in ("mounted@2", "hidden@1"):
            assert (await client.get(f"{WS}/dataset-versions/{name}")).status_code == 404
            assert (await client.get(f"{WS}/dataset-versions/{name}/manifest")).status_code == 404
            difference = await client.get(f"{WS}/dataset-versions/mounted@1/difference", params={"base": name})
            assert difference.status_code == 404
        assert (await client.get(f"{WS}/datasets/hidden")).status_code == 404
        assert (await client.post(f"{WS}/datasets/mounted/pushes", json=manifest(FILES))).status_code == 403
        assert (await client.put(f"{WS}/datasets/mounted/labels/a", json={"number": 1})).status_code == 403
        assert (await client.delete(f"{WS}/dataset-versions/mounted@2")).status_code == 403


async def test_quotas_of_datasets_files_and_bytes(world: World, root: httpx2.AsyncClient) -> None:
    parts = world.app.state.context
    quotas = {"most_datasets": 1, "most_dataset_files": 4, "most_dataset_bytes": 2**20}
    world.app.state.context = dataclasses.replace(parts, settings=parts.settings.model_copy(update=quotas))
    await push(root, "shop", FILES)
    for name, files in (("other", FILES), ("shop", {str(n): b"" for n in range(5)}), ("shop", {"a": b"y" * 2**20})):
        refused = await root.post(f"{WS}/datasets/{name}/pushes", json=manifest(files))
        assert refused.status_code in (409, 422)
        assert "KAON_MOST_DATASET" in refused.json()["hint"]


async def test_versions_at_the_same_time_have_different_numbers(root: httpx2.AsyncClient) -> None:
    made = await asyncio.gather(*(push(root, "shop", {"a": str(n).encode()}) for n in range(5)))
    assert sorted(each["name"] for each in made) == [f"shop@{n}" for n in range(1, 6)]


async def test_every_change_is_audited(root: httpx2.AsyncClient) -> None:
    await push(root, "shop", FILES)
    await push(root, "shop", {"a": b"2"})
    await root.put(f"{WS}/datasets/shop/labels/prod", json={"number": 2})
    await root.delete(f"{WS}/dataset-versions/shop@1")
    records = (await root.get(f"{WS}/audit")).json()["items"]
    verbs = [(record["kind"], record["verb"]) for record in reversed(records) if record["kind"].startswith("dataset")]
    assert verbs[0] == ("dataset", "create")
    assert ("dataset-version", "create") in verbs
    assert verbs[-2:] == [("dataset", "set"), ("dataset-version", "delete")]


async def test_a_large_file_comes_from_an_upload_that_may_be_continued(root: httpx2.AsyncClient) -> None:
    data = b"large" * 100_000
    begun = await begin(root, "shop", {"a": data})
    upload = f"{WS}/uploads/{digest(data)}"
    taken = f"{WS}/datasets/shop/pushes/{begun['push']}/files/{digest(data)}"
    for start, end in ((0, 200_000), (200_000, 500_000)):
        assert (await root.put(taken)).status_code == 404
        sent = await root.put(upload, params={"size": len(data), "offset": start}, content=data[start:end])
        assert sent.is_success, sent.text
    assert [(await root.put(taken)).status_code for _ in range(2)] == [204, 204]
    assert (await root.put(taken[:-2] + "00")).status_code == 422
    assert (await create(root, "shop", begun["push"])).status_code == 201
