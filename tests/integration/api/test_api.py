"""What the routes do for whoever may use them."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.bad_manifests import spoilt
from tests.plans import keep_plan
from tests.statuses import status_with
from tests.waiting import until

from kaon.errors import Unavailable
from kaon.types.artifact import Manifest
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    RevisionSpec,
    RolloutState,
    Template,
    template_hash,
)
from kaon.types.job import JobDeclaration
from kaon.types.key import Role
from kaon.types.plan import Plan
from kaon.types.service import ServiceSpec

from .world import DIGEST, World, artifact_bytes, digest_of, packed, populate, world_of

SPEC = {"template": {"artifact": DIGEST}}
WEB = "/workspaces/default/deployments/web"


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        yield made


@pytest.fixture
async def root(world: World) -> Any:
    async with world.client(world.keys["root"]) as client:
        yield client


# Artifacts


async def test_an_artifact_comes_once_and_is_known_by_its_digest(world: World, root: Any) -> None:
    data = artifact_bytes(b"y = 2\n")
    first = await root.post("/workspaces/default/artifacts", content=data)
    again = await root.post("/workspaces/default/artifacts", content=data)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["spec"]["digest"] == digest_of(data)
    assert first.json()["spec"]["size_bytes"] == len(data)
    assert b"".join([chunk async for chunk in world.blobs.read(digest_of(data))]) == data
    got = await root.get(f"/workspaces/default/artifacts/{digest_of(data)}")
    assert got.json()["spec"]["manifest"]["service"]["name"] == "Echo"


@pytest.mark.parametrize("damage", ["cut", "flipped", "appended", "empty", "text"])
async def test_a_damaged_artifact_leaves_nothing_behind(world: World, root: Any, damage: str) -> None:
    good = artifact_bytes(b"z = 3\n")
    bad = {
        "cut": good[:-20],
        "flipped": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "appended": good + b"x",
        "empty": b"",
        "text": b"import os",
    }[damage]
    before, files = await world.store.version(), _files(world.settings.home)
    answer = await root.post("/workspaces/default/artifacts", content=bad)
    assert answer.status_code == 400
    assert await world.store.version() == before
    assert _files(world.settings.home) == files


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


# Deployments


async def test_putting_the_same_again_changes_nothing_and_another_makes_the_next_generation(root: Any) -> None:
    first = await root.put("/workspaces/default/deployments/new", json=SPEC)
    same = await root.put("/workspaces/default/deployments/new", json=SPEC)
    other = await root.put("/workspaces/default/deployments/new", json=SPEC | {"public": True})
    assert [a.status_code for a in (first, same, other)] == [201, 200, 200]
    assert [a.json()["generation"] for a in (first, same, other)] == [1, 1, 2]
    assert first.json()["version"] == same.json()["version"] < other.json()["version"]
    events = (await root.get("/workspaces/default/events", params={"name": "new"})).json()["items"]
    assert [e["reason"] for e in events] == ["Deployed", "Deployed"]
    assert all("By key 'root'." in e["message"] for e in events)


async def test_a_dry_run_answers_what_would_be_and_writes_nothing(world: World, root: Any) -> None:
    before = await world.store.version()
    would = await root.put(WEB, json=SPEC | {"scaling": {"min": 2, "max": 4}}, params={"dry_run": True})
    assert would.status_code == 200
    scaling = would.json()["spec"]["scaling"]
    assert (would.json()["generation"], scaling["min"], scaling["max"]) == (2, 2, 4)
    fresh = await root.put("/workspaces/default/deployments/new", json=SPEC, params={"dry_run": True})
    assert (fresh.status_code, fresh.json()["version"]) == (200, 0)
    assert await world.store.version() == before
    assert len((await root.get("/workspaces/default/events")).json()["items"]) == 1  # of the secret


async def test_a_change_that_is_based_on_an_old_version_is_refused(root: Any) -> None:
    version = (await root.get(WEB)).json()["version"]
    changed = await root.put(WEB, json=SPEC | {"public": True}, headers={"if-match": f'"{version}"'})
    assert changed.status_code == 200
    stale = await root.put(WEB, json=SPEC, headers={"if-match": str(version)})
    assert stale.status_code == 409
    missing = await root.put("/workspaces/default/deployments/new", json=SPEC, headers={"if-match": "1"})
    assert missing.status_code == 409
    assert (await root.put(WEB, json=SPEC, headers={"if-match": "latest"})).status_code == 422


async def test_a_host_name_belongs_to_its_first_deployment_and_the_platforms_names_to_none(root: Any) -> None:
    other = "/workspaces/default/deployments/new"
    mine = SPEC | {"hosts": ["ai.example.com"]}
    assert (await root.put(WEB, json=mine)).status_code == 200
    assert (await root.put(WEB, json=mine)).status_code == 200
    for host in ("ai.example.com", "localhost", "web.localhost"):
        refused = await root.put(other, json=SPEC | {"hosts": [host]})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert host in refused.json()["detail"]
    for host in ("127.0.0.1", "AI.example.com", "a b", "x.1", "*.example.com", "ai.example.com:80"):
        assert (await root.put(other, json=SPEC | {"hosts": [host]})).status_code == 422
    assert (await root.put(WEB, json=SPEC)).status_code == 200
    assert (await root.put(other, json=mine)).status_code == 201


@pytest.mark.parametrize(
    ("spec", "says", "hints"),
    [
        ({"template": {"artifact": "sha256:" + "0" * 64}}, "artifact", "kaon deploy"),
        ({"template": {"artifact": DIGEST, "secrets": {"A": "absent"}}}, "'absent'", "kaon secret set absent"),
        (
            {"template": {"artifact": DIGEST, "env": {"A": "1"}, "secrets": {"A": "token"}}},
            "A is given both",
            "Remove one",
        ),
    ],
)
async def test_an_error_names_what_is_missing_and_the_command_that_helps(
    world: World, root: Any, spec: dict[str, Any], says: str, hints: str
) -> None:
    before = await world.store.version()
    answer = await root.put(WEB, json=spec)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert hints in answer.json()["hint"]
    assert await world.store.version() == before


@pytest.mark.parametrize("name", ["api", "console", "docs", "health", "metrics"])
async def test_names_of_the_platforms_own_paths_are_kept(root: Any, name: str) -> None:
    assert (await root.put(f"/workspaces/default/deployments/{name}", json=SPEC)).status_code == 422


async def test_an_artifact_of_jobs_is_not_deployed(root: Any) -> None:
    jobs = packed(
        Manifest(
            kaon="0",
            python="3.11",
            service=ServiceSpec(name="train", entry="app:train"),
            jobs=(JobDeclaration(name="train", entry="app:train"),),
            files=(),
        )
        .model_dump_json()
        .encode()
    )
    assert (await root.post("/workspaces/default/artifacts", content=jobs)).is_success
    refused = await root.put(WEB, json=SPEC | {"template": {"artifact": digest_of(jobs)}})
    assert refused.status_code == 422
    assert "kaon job run" in refused.json()["hint"]


async def test_edits_change_what_they_say_and_nothing_else(root: Any) -> None:
    before = (await root.get(WEB)).json()["spec"]
    scaled = (await root.post(WEB + "/scale", json={"min": 2, "max": 5})).json()["spec"]
    assert scaled == before | {"scaling": before["scaling"] | {"min": 2, "max": 5}}
    paused = (await root.post(WEB + "/pause")).json()["spec"]
    assert paused == scaled | {"paused": True}
    assert (await root.post(WEB + "/resume")).json()["spec"] == scaled
    restarted = (await root.post(WEB + "/restart")).json()["spec"]
    assert restarted["template"].pop("restarted_at") > 0
    scaled["template"].pop("restarted_at")
    assert restarted == scaled


async def test_scaling_changes_the_given_fields_and_keeps_the_others(root: Any) -> None:
    floor = {"replicas": 3, "start": "09:00", "end": "18:00"}
    first = {"min": 2, "max": 8, "floors": [floor], "keep_alive_s": 60}
    assert (await root.post(WEB + "/scale", json=first)).status_code == 200
    scaled = (await root.post(WEB + "/scale", json={"max": 9})).json()["spec"]["scaling"]
    assert scaled == first | {"max": 9, "hold_s": 60}
    learnt = (await root.post(WEB + "/scale", json={"keep_alive_s": None, "floors": []})).json()["spec"]["scaling"]
    assert learnt == scaled | {"keep_alive_s": None, "floors": []}
    assert (await root.post(WEB + "/scale", json={})).json()["spec"]["scaling"] == learnt
    refused = await root.post(WEB + "/scale", json={"max": 1})
    assert (refused.status_code, "scaling.min (2) is above scaling.max (1)" in refused.text) == (422, True)
    assert (await root.post(WEB + "/scale", json={"max": None})).status_code == 422
    assert (await root.get(WEB)).json()["spec"]["scaling"] == learnt


async def test_deploying_the_same_after_a_restart_does_not_restart_again(root: Any) -> None:
    await root.put("/workspaces/default/deployments/new", json=SPEC)
    restarted = (await root.post("/workspaces/default/deployments/new/restart")).json()
    again = (await root.put("/workspaces/default/deployments/new", json=SPEC)).json()
    assert again["generation"] == restarted["generation"]


async def test_edits_at_once_all_happen(world: World, root: Any) -> None:
    edits = [root.post(WEB + "/scale", json={"min": 1, "max": n}) for n in range(1, 5)] + [root.post(WEB + "/pause")]
    answers = await asyncio.gather(*edits)
    assert [a.status_code for a in answers] == [200] * 5
    spec = (await root.get(WEB)).json()["spec"]
    assert spec["paused"] is True
    assert spec["scaling"]["max"] in range(1, 5)


async def _history(world: World, count: int) -> list[Template]:
    """`count` revisions of a deployment `app`, which is at the last."""
    templates = [Template(artifact=DIGEST, env={"N": str(n)}) for n in range(1, count + 1)]
    made = await world.store.create("deployment", "default", "app", DeploymentSpec(template=templates[-1]))
    for number, template in enumerate(templates, start=1):
        revision = RevisionSpec(
            deployment="app",
            deployment_uid=made.uid,
            number=number,
            template=template,
            template_hash=template_hash(template),
        )
        await world.store.create("revision", "default", f"app-{number}", revision)
    return templates


async def test_undo_goes_to_the_one_before_or_to_the_one_named(world: World, root: Any) -> None:
    await _history(world, 3)
    path = "/workspaces/default/deployments/app/undo"

    async def n() -> str:
        return (await root.get(path.removesuffix("/undo"))).json()["spec"]["template"]["env"]["N"]

    assert (await root.post(path, json={})).status_code == 200
    assert await n() == "2"
    assert (await root.post(path)).status_code == 200
    assert await n() == "1"
    assert (await root.post(path)).status_code == 422
    assert (await root.post(path, json={"revision": 3})).status_code == 200
    assert await n() == "3"
    for number in (4, 0, -1):
        assert (await root.post(path, json={"revision": number})).status_code == 422


async def test_undo_of_a_stopped_rollout_goes_back_to_what_serves(world: World, root: Any) -> None:
    await _history(world, 3)
    deployment = await world.store.get("deployment", "default", "app")
    status = status_with(observed_generation=1, state=RolloutState.STOPPED, stable=1, target=3)
    await world.store.update_status(deployment, status)
    states = (await root.get("/workspaces/default/deployments/app/revisions")).json()["items"]
    assert [s["state"] for s in states] == ["serving", "past", "failed"]
    undone = await root.post("/workspaces/default/deployments/app/undo")
    assert undone.json()["spec"]["template"]["env"]["N"] == "1"


async def test_a_view_has_what_people_ask_first_and_never_the_state_of_an_earlier_spec(world: World, root: Any) -> None:
    deployment = await world.store.get("deployment", "default", "web")
    assignments = (Assignment(revision=1, replicas=2, ready=2), Assignment(revision=2, replicas=1, ready=0))
    status = status_with(observed_generation=1, state=RolloutState.STABLE, stable=1, target=2, assignments=assignments)
    await world.store.update_status(deployment, status)
    seen = (await root.get(WEB)).json()
    assert {k: seen[k] for k in ("url", "state", "ready", "replicas", "revision")} == {
        "url": "http://127.0.0.1:8080/web",
        "state": "Stable",
        "ready": 2,
        "replicas": 3,
        "revision": 1,
    }
    scaled = (await root.post(WEB + "/scale", json={"min": 3, "max": 3})).json()
    assert scaled["state"] == "Progressing"


async def test_deleting_is_once(root: Any) -> None:
    assert (await root.delete(WEB)).status_code == 204
    assert (await root.delete(WEB)).status_code == 404
    assert (await root.get(WEB)).status_code == 404


# Keys and secrets


async def test_a_key_is_shown_once_works_at_once_and_ends_at_once(world: World, root: Any) -> None:
    made = (await root.post("/workspaces/default/keys", json={"name": "ci", "role": "admin"})).json()
    assert made["key"].startswith("kaon_")
    assert len(made["key"]) >= 5 + 43  # 256 bits
    async with world.client(made["key"]) as ci:
        child = (await ci.post("/workspaces/default/keys", json={"name": "child", "role": "viewer"})).json()
        async with world.client(child["key"]) as viewer:
            assert (await viewer.get("/whoami")).json()["key"] == "child"
            assert (await root.delete("/workspaces/default/keys/ci")).status_code == 204
            assert (await ci.get("/whoami")).status_code == 401
            assert (await viewer.get("/whoami")).status_code == 401
    listed = (await root.get("/workspaces/default/keys")).text
    assert made["key"] not in listed
    states = {k["name"]: k["state"] for k in (await root.get("/workspaces/default/keys")).json()["items"]}
    assert states == {"root": "active", "ci": "revoked", "child": "the key that made it is revoked"}


async def test_a_key_has_the_priority_that_it_was_made_with_and_low_ones_give_none_away(
    world: World, root: Any
) -> None:
    body = {"name": "first", "role": "caller", "priority": "high"}
    assert (await root.post("/workspaces/default/keys", json=body)).json()["priority"] == "high"
    low = {"name": "nightly", "role": "admin", "priority": "low"}
    async with world.client((await root.post("/workspaces/default/keys", json=low)).json()["key"]) as nightly:
        for wanted, status in (("high", 403), ("normal", 403), ("low", 201)):
            body = {"name": f"of-{wanted}", "role": "caller", "priority": wanted}
            assert (await nightly.post("/workspaces/default/keys", json=body)).status_code == status
    listed = (await root.get("/workspaces/default/keys")).json()["items"]
    assert {k["name"]: k["priority"] for k in listed if k["name"] != "root"} == {
        "first": "high",
        "nightly": "low",
        "of-low": "low",
    }


async def test_the_name_of_a_revoked_key_is_free_again_and_of_a_live_one_is_not(world: World, root: Any) -> None:
    body = {"name": "ci", "role": "viewer"}
    old = (await root.post("/workspaces/default/keys", json=body)).json()["key"]
    assert (await root.post("/workspaces/default/keys", json=body)).status_code == 409
    await root.delete("/workspaces/default/keys/ci")
    new = (await root.post("/workspaces/default/keys", json=body)).json()["key"]
    async with world.client(old) as before, world.client(new) as after:
        assert (await before.get("/whoami")).status_code == 401
        assert (await after.get("/whoami")).status_code == 200


async def test_a_key_does_not_come_back_when_another_takes_its_owners_name(world: World, root: Any) -> None:
    body = {"name": "boss", "role": "admin"}
    boss_key = (await root.post("/workspaces/default/keys", json=body)).json()["key"]
    async with world.client(boss_key) as boss:
        made = await boss.post("/workspaces/default/keys", json={"name": "child", "role": "viewer"})
    async with world.client(made.json()["key"]) as child:
        assert (await child.get("/whoami")).status_code == 200
        await root.delete("/workspaces/default/keys/boss")
        assert (await root.post("/workspaces/default/keys", json=body)).status_code == 201
        assert (await child.get("/whoami")).status_code == 401


async def test_a_key_expires_at_its_time(world: World, root: Any) -> None:
    at = world.clock.now() + 100
    body = {"name": "brief", "role": "viewer", "expires_at": at}
    key = (await root.post("/workspaces/default/keys", json=body)).json()["key"]
    async with world.client(key) as client:
        assert (await client.get("/whoami")).json()["expires_at"] == at
        world.clock.jump(100)
        assert (await client.get("/whoami")).status_code == 401
    late = await root.post("/workspaces/default/keys", json=body | {"name": "late"})
    assert late.status_code == 422


async def test_a_key_that_another_process_made_is_known_at_once(world: World) -> None:
    for number in range(5):
        key = await world.key(f"made-{number}", Role.VIEWER, workspace="default")
        async with world.client(key) as client:
            assert (await client.get("/whoami")).status_code == 200


async def test_a_secret_that_is_in_use_stays(root: Any) -> None:
    refused = await root.delete("/workspaces/default/secrets/token")
    assert refused.status_code == 409
    assert "web" in refused.json()["detail"]
    await root.delete(WEB)
    assert (await root.delete("/workspaces/default/secrets/token")).status_code == 204


# Workspaces


async def test_a_workspace_goes_when_it_is_empty_and_its_keys_with_it(world: World, root: Any) -> None:
    assert (await root.post("/workspaces", json={"name": "shop"})).status_code == 201
    assert (await root.post("/workspaces", json={"name": "shop"})).status_code == 409
    key = (await root.post("/workspaces/shop/keys", json={"name": "boss", "role": "admin"})).json()["key"]
    async with world.client(key) as boss:
        assert [w["name"] for w in (await boss.get("/workspaces")).json()["items"]] == ["shop"]
        await boss.post("/workspaces/shop/artifacts", content=artifact_bytes())
        made = await boss.put("/workspaces/shop/deployments/web", json=SPEC)
        assert made.json()["url"] == "http://127.0.0.1:8080/~shop/web"
        assert (await root.delete("/workspaces/shop")).status_code == 409
        await boss.delete("/workspaces/shop/deployments/web")
        assert (await root.delete("/workspaces/shop")).status_code == 204
        assert (await boss.get("/whoami")).status_code == 401
    assert (await root.delete("/workspaces/default")).status_code == 409


# Agents


@pytest.fixture
async def agent(world: World) -> Any:
    async with world.client(await world.key("agent", Role.AGENT, cloud="local"), timeout=60) as client:
        yield client


async def hangs(world: World, cloud: str) -> None:
    """Until an agent's request waits for a change of its plan."""
    await until(lambda: ("plan", "", cloud) in world.app.state.context.snapshot._waiting)


async def test_a_plan_is_answered_when_it_changes_and_304_when_not(world: World, agent: Any) -> None:
    known = {"if-none-match": (await agent.get("/clouds/local/plan")).headers["etag"]}
    same = await agent.get("/clouds/local/plan", params={"wait_s": 0.05}, headers=known)
    assert (same.status_code, same.content) == (304, b"")
    waiting = asyncio.ensure_future(agent.get("/clouds/local/plan", params={"wait_s": 30}, headers=known))
    await hangs(world, "local")
    assert not waiting.done()
    await keep_plan(world.store, Plan(cloud="local"))
    answer = await waiting
    assert Plan.model_validate_json(answer.content) == Plan(cloud="local")


async def test_a_cloud_without_a_plan_waits_for_its_first(world: World) -> None:
    async with world.client(await world.key("far", Role.AGENT, cloud="far")) as far:
        assert (await far.get("/clouds/far/plan", params={"wait_s": 0})).status_code == 304
        waiting = asyncio.ensure_future(far.get("/clouds/far/plan", params={"wait_s": 30}))
        await hangs(world, "far")
        await keep_plan(world.store, Plan(cloud="far"))
        assert (await waiting).json()["cloud"] == "far"


async def test_an_unchanged_report_is_written_every_five_seconds(world: World, agent: Any) -> None:
    report = {"cloud": "local", "plan": "x"}

    async def version_after_report() -> int:
        assert (await agent.post("/clouds/local/report", json=report)).status_code == 204
        return (await world.store.get("cloud", "", "local")).version

    first = await version_after_report()
    assert await version_after_report() == first
    world.clock.jump(4.9)
    assert await version_after_report() == first
    world.clock.jump(0.1)
    second = await version_after_report()
    assert second > first
    report["plan"] = "y"
    assert await version_after_report() > second


async def test_the_first_report_makes_the_cloud(world: World, root: Any) -> None:
    async with world.client(await world.key("far", Role.AGENT, cloud="far")) as far:
        assert (await far.post("/clouds/far/report", json={"cloud": "far"})).status_code == 204
    clouds = {c["name"]: c["connected"] for c in (await root.get("/clouds")).json()["items"]}
    assert clouds == {"far": True, "local": True}
    world.clock.jump(60)
    clouds = {c["name"]: c["connected"] for c in (await root.get("/clouds")).json()["items"]}
    assert clouds == {"far": False, "local": False}


# Errors


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_dead_store_is_a_503_and_no_request_hangs(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead(*_: Any) -> Any:
        if how == "silent":
            await asyncio.Event().wait()
        raise Unavailable("The store cannot be reached.", retry_after_s=1)

    async with world.client(world.keys["root"]) as root:
        assert (await root.get(WEB)).status_code == 200
        for name in ("find", "get", "list_all", "version", "changes"):
            monkeypatch.setattr(world.store, name, dead)
        monkeypatch.setattr("kaon.api.keyring.STORE_PATIENCE_S", 0.2 if how == "silent" else 3600.0)
        answer = await root.get(WEB)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        monkeypatch.undo()
        assert (await root.get(WEB)).status_code == 200


async def test_an_unexpected_error_shows_only_a_request_id(
    world: World, root: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("the-text-of-an-exception")

    monkeypatch.setattr(world.store, "events", broken)
    answer = await root.get("/workspaces/default/events")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "the-text-of-an-exception" not in answer.text
    out, err = capfd.readouterr()
    assert "the-text-of-an-exception" not in out + err
    assert answer.json()["request_id"] in out + err


async def test_a_manifest_out_of_bounds_is_refused_with_the_name_of_the_field(world: World, root: Any) -> None:
    before = await world.store.list_all("artifact")
    for place, value in [
        (("service", "endpoints", 0, "timeout_s"), -100.0),
        (("service", "endpoints", 0, "timeout_s"), math.inf),
        (("service", "endpoints", 0, "hedge_s"), math.nan),
        (("service", "endpoints", 0, "path"), "/" + "a" * 2000),
        (("service", "resources", "cpus"), math.nan),
        (("service", "endpoints"), ({"name": "a", "method": "GET", "path": "/a"},) * 300),
    ]:
        raw = json.dumps(spoilt(place, value), separators=(",", ":")).encode()
        answer = await root.post("/workspaces/default/artifacts", content=packed(raw))
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["where"] == ".".join(map(str, place))
    assert await world.store.list_all("artifact") == before
