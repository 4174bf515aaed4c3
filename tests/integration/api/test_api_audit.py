"""Who changed what: every route that changes something leaves a record, in the transaction of the change."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.api.openapi import document
from kaon.api.router import AuthorizedRoute
from kaon.store.port import AuditQuery
from kaon.types.audit import AuditRecord, Outcome
from kaon.types.key import Right, Role

from .test_api_security import FOR_ROUTE, GOOD, MANIFEST, ROUTES, address, ask, prepared, push_spare
from .world import World, populate, world_of

OTHERS = (
    "/gc",
    "/clouds/{name}",
    "/clouds/{name}/cordon",
    "/clouds/{name}/uncordon",
    "/workspaces/{ws}/uploads/{digest}",
    "/workspaces/{ws}/datasets/{name}/pushes",
    "/workspaces/{ws}/datasets/{name}/pushes/{push}/files",
    "/workspaces/{ws}/datasets/{name}/pushes/{push}/files/{digest}",
    "/workspaces/{ws}/dataset-versions/{name}/verify",
)
"""Of these it depends on what there is whether they change anything; uploads and pushes are nothing until something
uses them, and `verify` deletes damaged bytes only."""
CHANGING = [r for r in ROUTES if r[0] != "GET" and r[2].right in (Right.WRITE, Right.ADMIN) and r[1] not in OTHERS]
FOR_CHANGE = pytest.mark.parametrize(("method", "path", "route"), CHANGING, ids=[f"{r[0]} {r[1]}" for r in CHANGING])
WEB = "/workspaces/default/deployments/web"
NEVER = ("something else", "spare value", "kaon_")
"""What no record holds: values of secrets, and keys."""


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        await made.key("victim", Role.VIEWER, workspace="default")
        async with made.client(made.keys["root"]) as root:
            await root.put("/workspaces/default/secrets/spare", json={"value": "spare value"})
            await root.post("/workspaces", json={"name": "foreign"})
            await push_spare(root)
            await second_version(root)
        yield made


async def second_version(root: Any) -> None:
    """Another version of the dataset `spare`, which has a label."""
    dataset = "/workspaces/default/datasets/spare"
    push = (await root.post(f"{dataset}/pushes", json={"files": [*MANIFEST["files"], OTHER_FILE]})).json()["push"]
    assert (await root.post(f"{dataset}/versions", json={"push": push})).status_code == 201
    assert (await root.put(f"{dataset}/labels/prod", json={"number": 2})).is_success


OTHER_FILE = {"path": "b", "size_bytes": 4, "digest": MANIFEST["files"][0]["digest"]}


async def newest(world: World, **query: Any) -> list[AuditRecord]:
    return await world.store.audit(AuditQuery(**query))


@FOR_CHANGE
async def test_a_change_leaves_one_record_with_key_verb_and_address(
    world: World, method: str, path: str, route: AuthorizedRoute
) -> None:
    async with AsyncExitStack() as exits:
        client = await exits.enter_async_context(world.client(world.keys["root"], peer="192.0.2.7"))
        other = await prepared(world, method, path, exits)
        if path.endswith("/resume"):
            await client.post(WEB + "/pause")
        if (method, path.rsplit("/", 1)[-1]) == ("DELETE", "shadow"):
            await client.put(WEB + "/shadow", **GOOD["PUT", path])
        last = (await newest(world, limit=1))[0].id
        answer = await client.request(
            method, other or address(method, path), headers={"x-request-id": "asked-for-it"}, **GOOD[method, path]
        )
        assert answer.is_success, answer.text
    root = await world.resource_of_key("root")
    records = [record for record in await newest(world) if record.id > last]
    assert records, "nothing was recorded"
    for record in records:
        assert (record.actor, record.actor_uid, record.address) == ("root", root.uid, "192.0.2.7")
        assert (record.request_id, record.verb, record.outcome) == ("asked-for-it", route.verb, Outcome.DONE)
        assert record.uid
        assert record.before != record.after
        assert not [text for text in NEVER if text in record.model_dump_json()]


async def test_what_changes_nothing_is_not_recorded(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        await root.post("/workspaces/default/deployments/web/pause")
        last = (await newest(world, limit=1))[0]
        events = len(await world.store.events("default"))
        assert (await root.post("/workspaces/default/deployments/web/pause")).is_success
    assert (await newest(world, limit=1))[0] == last
    assert len(await world.store.events("default")) == events


async def test_a_refused_attempt_is_recorded_but_not_without_bound(world: World) -> None:
    viewer = await world.key("eve", Role.VIEWER, workspace="default")
    async with world.client(viewer) as client:
        for _ in range(30):
            answer = await client.post("/workspaces/default/deployments/web/scale", json={"min": 9, "max": 9})
            assert answer.status_code == 403
    records = await newest(world, actor="eve")
    assert len(records) == 10
    assert {(r.verb, r.kind, r.workspace, r.name, r.outcome) for r in records} == {
        ("scale", "deployment", "default", "web", Outcome.REFUSED)
    }
    await world.clock.advance(61)
    async with world.client(viewer) as client:
        await client.post("/workspaces/default/deployments/web/restart")
    assert (await newest(world, actor="eve"))[0].verb == "restart"


async def test_a_handler_that_refuses_is_recorded_too(world: World) -> None:
    some = await world.key("some", Role.EDITOR, workspace="default", deployments=("web",))
    async with world.client(some) as client:
        assert (await client.put("/workspaces/default/secrets/s", json={"value": "v"})).status_code == 403
    [record] = await newest(world, actor="some")
    assert (record.verb, record.kind, record.name, record.outcome) == ("put", "secret", "s", Outcome.REFUSED)


async def test_records_are_read_page_by_page_and_filtered(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        for _ in range(3):
            for verb in ("pause", "resume"):
                await root.post(f"/workspaces/default/deployments/web/{verb}")
        wanted = {"kind": "deployment", "name": "web", "actor": "root", "verb": "pause", "since": 0, "limit": 2}
        first = (await root.get("/workspaces/default/audit", params=wanted)).json()
        second = (await root.get("/workspaces/default/audit", params=wanted | {"after": first["next"]})).json()
        everything = (await root.get("/audit", params=wanted | {"limit": 100})).json()
        assert first["items"] + second["items"] == everything["items"]
        assert [record["verb"] for record in everything["items"]] == ["pause"] * 3
        assert second["next"] is None is everything["next"]
        later = (await root.get("/audit", params={"since": world.clock.now() + 1})).json()
        assert later["items"] == []
        for bad in ({"after": "x"}, {"limit": 0}, {"limit": 1001}, {"since": "nan"}):
            assert (await root.get("/audit", params=bad)).status_code == 422


async def test_a_workspace_sees_its_own_records_and_none_of_one_that_had_its_name(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        await root.put("/workspaces/foreign/secrets/s", json={"value": "v"})
        admin = await world.key("boss", Role.ADMIN, home="foreign", workspace="foreign")
        async with world.client(admin) as boss:
            for path in ("/audit", "/workspaces/foreign/audit"):
                assert {r["workspace"] for r in (await boss.get(path)).json()["items"]} == {"foreign"}
        world.clock.jump(1)
        await root.delete("/workspaces/foreign")
        world.clock.jump(1)
        await root.post("/workspaces", json={"name": "foreign"})
        assert (await root.get("/workspaces/foreign/audit")).json()["items"] == []
        gone = (await root.get("/audit", params={"verb": "delete"})).json()["items"]
        assert {(r["kind"], r["workspace"], r["name"]) for r in gone} >= {
            ("workspace", "", "foreign"),
            ("secret", "foreign", "s"),
            ("key", "foreign", "boss"),
        }


async def test_an_admin_of_some_deployments_sees_what_was_done_to_these(world: World) -> None:
    key = await world.key("some", Role.ADMIN, workspace="default", deployments=("web",))
    async with world.client(world.keys["root"]) as root, world.client(key) as some:
        await root.post("/workspaces/default/deployments/web/pause")
        for path in ("/audit", "/workspaces/default/audit"):
            found = (await some.get(path)).json()["items"]
            assert {(r["kind"], r["name"]) for r in found} == {("deployment", "web")}
            assert (await some.get(path, params={"kind": "key"})).json()["items"] == []


# If-Match

OF_DEPLOYMENT = [r for r in CHANGING if r[1].startswith("/workspaces/{ws}/deployments/{deployment}")]
IMMUTABLE = (
    "/workspaces/{ws}/artifacts/{digest}",
    "/gc",
    *(path for path in OTHERS if "/uploads/" in path or "/pushes" in path or path.endswith("/verify")),
)


def takes(route: AuthorizedRoute, header: str) -> bool:
    operation = document([route])["paths"][route.path_format][next(iter(route.methods)).lower()]
    return header in {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}


@FOR_ROUTE
def test_every_change_of_something_that_exists_takes_if_match(method: str, path: str, route: AuthorizedRoute) -> None:
    changes = method != "GET" and route.right in (Right.WRITE, Right.ADMIN) and path not in IMMUTABLE
    creates = method == "POST" and path.rsplit("/", 1)[-1] in ("workspaces", "artifacts", "keys", "versions")
    assert route.include_in_schema is False or takes(route, "If-Match") == (changes and not creates)


@pytest.mark.parametrize(("method", "path", "route"), OF_DEPLOYMENT, ids=[f"{r[0]} {r[1]}" for r in OF_DEPLOYMENT])
async def test_a_change_based_on_an_old_version_is_refused_with_who_changed_it(
    world: World, method: str, path: str, route: AuthorizedRoute
) -> None:
    bob = await world.key("bob", Role.EDITOR, workspace="default")
    shown = WEB + ("/tuning" if path.endswith("/tuning") else "")
    async with AsyncExitStack() as exits:
        root = await exits.enter_async_context(world.client(world.keys["root"]))
        await prepared(world, method, path, exits)
        seen = (await root.get(shown)).headers["etag"]
        async with world.client(bob) as other:
            assert (await other.post(WEB + "/scale", json={"min": 7, "max": 9})).is_success
        before = await world.store.version()
        refused = await ask(root, method, path, headers={"if-match": seen})
        assert refused.status_code == 409, refused.text
        assert "was changed since you read it, by key 'bob' at 2" in refused.json()["detail"]
        assert "kaon audit" in refused.json()["hint"]
        assert await world.store.version() == before
        await prepared(world, method, path, exits)
        now = (await root.get(shown)).headers["etag"]
        assert (await ask(root, method, path, headers={"if-match": now})).is_success


async def test_a_status_that_the_platform_writes_is_no_change_since_one_looked(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        seen = (await root.get(WEB)).headers["etag"]
        web = await world.store.get("deployment", "default", "web")
        await world.store.update_status(web, status_with(web.status, reason="starting"))
        assert (await root.get(WEB)).headers["etag"] == seen
        assert (await root.post(WEB + "/pause", headers={"if-match": seen})).is_success


async def test_a_version_stands_for_the_status_too(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        version = (await root.get(WEB)).json()["version"]
        web = await world.store.get("deployment", "default", "web")
        await world.store.update_status(web, status_with(web.status, reason="starting"))
        assert (await root.post(WEB + "/pause", headers={"if-match": f'"{version}"'})).status_code == 409
        newer = (await root.get(WEB)).json()["version"]
        assert (await root.post(WEB + "/pause", headers={"if-match": str(newer)})).is_success


async def test_a_resource_that_was_created_again_does_not_meet_an_old_precondition(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        seen = (await root.get(WEB)).headers["etag"]
        spec = (await world.store.get("deployment", "default", "web")).spec.model_dump(mode="json")
        body = {**spec, "owner": "", "owner_uid": ""}
        await root.delete(WEB)
        gone = await root.put(WEB, json=body, headers={"if-match": seen})
        assert gone.status_code == 409
        assert "was deleted since you read it, by key 'root'" in gone.json()["detail"]
        only_new = {"if-none-match": "*"}
        assert (await root.put(WEB, json=body, headers=only_new)).status_code == 201
        again = await root.delete(WEB, headers={"if-match": seen})
        assert "was deleted and created again since you read it, by key 'root'" in again.json()["detail"]
        twice = await root.put(WEB, json=body, headers=only_new)
        assert "was created since you read it, by key 'root'" in twice.json()["detail"]


@pytest.mark.parametrize("header", [{"if-match": "W/x"}, {"if-match": "*"}, {"if-match": ""}, {"if-none-match": "x"}])
async def test_a_precondition_that_cannot_be_read_is_refused(world: World, header: dict[str, str]) -> None:
    async with world.client(world.keys["root"]) as root:
        assert (await root.post(WEB + "/pause", headers=header)).status_code == 422
