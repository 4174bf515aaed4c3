"""Who answers for a deployment: what its services use, adoption, and what goes with a key; and who holds a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.control.deployments import DeploymentController
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import Assignment, RevisionSpec, Template, template_hash
from kaon.types.key import Role
from kaon.types.service import EndpointSpec, ServiceSpec

from .world import DIGEST, World, populate, world_of

AT = "/workspaces/default/deployments"
CALLS_OTHER = f"sha256:{'c' * 64}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await populate(made)
        endpoint = EndpointSpec(name="echo", method="POST", path="/echo")
        service = ServiceSpec(name="shop", entry="s:S", endpoints=(endpoint,), uses=("other",))
        manifest = Manifest(kaon="0", python="3.11", service=service, files=())
        spec = ArtifactSpec(digest=CALLS_OTHER, size_bytes=1, manifest=manifest)
        await made.store.create("artifact", "default", CALLS_OTHER, spec)
        yield made


@pytest.fixture
async def root(world: World) -> AsyncIterator[Any]:
    async with world.client(world.keys["root"]) as client:
        yield client


def using(digest: str = CALLS_OTHER, **template: Any) -> dict[str, Any]:
    return {"template": {"artifact": digest, **template}}


async def scoped(world: World, *deployments: str) -> Any:
    key = await world.key("ci", Role.EDITOR, workspace="default", deployments=deployments, owner="root")
    return world.client(key)


async def owner_of(world: World, name: str) -> str:
    return (await world.store.get("deployment", "default", name)).spec.owner


async def test_a_key_that_may_not_call_what_a_service_uses_cannot_deploy_it(world: World) -> None:
    async with await scoped(world, "shop") as ci:
        refused = await ci.put(f"{AT}/shop", json=using())
        assert refused.status_code == 403
        assert "'other'" in refused.json()["detail"]
        assert "kaon key create NAME --role editor --deployment other --deployment shop" in refused.json()["hint"]
    assert await world.store.find("deployment", "default", "shop") is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PUT", "", using(env={"N": "2"})), ("PUT", "/shadow", using()), ("POST", "/undo", {"revision": 1})],
)
async def test_no_other_way_to_choose_code_goes_round_that(
    world: World, root: Any, method: str, path: str, body: Any
) -> None:
    await root.put(f"{AT}/shop", json=using())
    await DeploymentController(world.store, world.vault, world.clock).reconcile(("default", "shop"))
    await root.put(f"{AT}/shop", json=using(DIGEST))
    async with await scoped(world, "shop") as ci:
        refused = await ci.request(method, f"{AT}/shop{path}", json=body)
        assert (refused.status_code, "'other'" in refused.text) == (403, True), refused.text


async def test_a_change_of_anything_but_the_code_keeps_the_owner(world: World, root: Any) -> None:
    await root.put(f"{AT}/shop", json=using())
    async with await scoped(world, "shop") as ci:
        assert (await ci.put(f"{AT}/shop", json={**using(), "public": True})).status_code == 200
    assert await owner_of(world, "shop") == "root"
    world.keys.pop("ci")
    await world.store.delete(await world.resource_of_key("ci"))
    async with await scoped(world, "shop", "other") as ci:
        assert (await ci.put(f"{AT}/shop", json={**using(), "public": False})).status_code == 200
    assert await owner_of(world, "shop") == "ci"


async def test_an_admin_adopts_what_its_owner_left(world: World, root: Any) -> None:
    async with await scoped(world, "shop", "other") as ci:
        assert (await ci.put(f"{AT}/shop", json=using())).status_code == 201
        assert (await ci.post(f"{AT}/shop/adopt")).status_code == 403
    narrow = await world.key("narrow", Role.ADMIN, workspace="default", deployments=("shop",))
    async with world.client(narrow) as client:
        refused = await client.post(f"{AT}/shop/adopt")
        assert (refused.status_code, "'other'" in refused.json()["detail"]) == (403, True)
    assert (await root.post(f"{AT}/shop/adopt")).status_code == 200
    assert await owner_of(world, "shop") == "root"


async def test_a_list_of_keys_has_the_deployments_of_each_and_of_the_keys_it_created(world: World, root: Any) -> None:
    lead = await world.key("lead", workspace="default")
    async with world.client(lead) as client:
        made = await client.post("/workspaces/default/keys", json={"name": "bot", "role": "editor"})
        await client.put(f"{AT}/shop", json=using())
    async with world.client(made.json()["key"]) as bot:
        await bot.put(f"{AT}/web", json=using())
    items = (await root.get("/workspaces/default/keys")).json()["items"]
    assert {k["name"]: k["owns"] for k in items} == {"root": [], "lead": ["shop", "web"], "bot": ["web"]}


@pytest.mark.parametrize("with_deployments", [False, True])
async def test_deployments_of_a_revoked_key_are_deleted_only_on_request(
    world: World, root: Any, with_deployments: bool
) -> None:
    async with await scoped(world, "shop", "other") as ci:
        await ci.put(f"{AT}/shop", json=using())
    flag = "?with_deployments=true" if with_deployments else ""
    for _ in range(2):  # a second time finishes what the first was cut off from
        assert (await root.delete(f"/workspaces/default/keys/ci{flag}")).status_code == 204
    left = {d.name for d in await world.store.list_all("deployment")}
    assert left == {"web", "other"} | (set() if with_deployments else {"shop"})


async def revision(world: World, number: int, **secrets: str) -> None:
    web = await world.store.get("deployment", "default", "web")
    template = Template(artifact=DIGEST, secrets=secrets, env={"N": str(number)})
    spec = {"deployment": "web", "deployment_uid": web.uid, "number": number, "template": template}
    made = RevisionSpec(**spec, template_hash=template_hash(template))
    await world.store.create("revision", "default", f"web-{number}", made)


@pytest.mark.parametrize(
    "status",
    [
        {"stable": 2, "target": 3},
        {"stable": 3, "target": 2},
        {"stable": 3, "target": 3, "shadow": 2},
        {"stable": 3, "target": 3, "assignments": (Assignment(revision=2, replicas=1, ordinals=(0,)),)},
    ],
    ids=["serves", "target", "shadow", "still runs"],
)
async def test_a_secret_stays_while_a_revision_with_it_may_serve(world: World, root: Any, status: Any) -> None:
    await root.put("/workspaces/default/secrets/token-2", json={"value": "x"})
    await revision(world, 2, TOKEN="token-2")
    await revision(world, 3)
    web = await world.store.get("deployment", "default", "web")
    await world.store.update_status(web, status_with(web.status, **status))
    refused = await root.delete("/workspaces/default/secrets/token-2")
    assert (refused.status_code, "web" in refused.json()["detail"]) == (409, True)
    listed = {s["name"]: s for s in (await root.get("/workspaces/default/secrets")).json()["items"]}
    assert (listed["token-2"]["used_by"], listed["token-2"]["kept_by"]) == (["web"], [])


async def test_a_secret_that_only_an_undo_needs_goes_and_the_revision_is_named(world: World, root: Any) -> None:
    await root.put("/workspaces/default/secrets/token-2", json={"value": "x"})
    await revision(world, 2, TOKEN="token-2")
    listed = {s["name"]: s for s in (await root.get("/workspaces/default/secrets")).json()["items"]}
    assert (listed["token-2"]["used_by"], listed["token-2"]["kept_by"]) == ([], ["web revision 2"])
    assert (await root.delete("/workspaces/default/secrets/token-2")).status_code == 204
    events = (await root.get("/workspaces/default/events", params={"kind": "secret"})).json()["items"]
    assert "web revision 2" in events[-1]["message"]
    undone = await root.post(f"{AT}/web/undo", json={"revision": 2})
    assert (undone.status_code, "kaon secret set token-2" in undone.json()["hint"]) == (422, True)
