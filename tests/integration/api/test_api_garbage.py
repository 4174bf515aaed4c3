"""`/gc`: who may, what it shows, and that it deletes exactly that."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaon.control.retention import AGAIN_S, EVERY_S, RetentionController
from kaon.errors import Unavailable
from kaon.store import garbage
from kaon.store.garbage import Collector, keep_of
from kaon.types.event import Event
from kaon.types.key import KeyStatus, Role

from .world import DIGEST, World, artifact_bytes, digest_of, populate, world_of

DAY_S = 86_400.0
UNUSED = digest_of(artifact_bytes(b"x = 1\n"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        made.clock.jump(time.time() - made.clock.now())
        await populate(made)
        async with made.client(made.keys["root"]) as root:
            assert (await root.post("/workspaces/default/artifacts", content=artifact_bytes(b"x = 1\n"))).is_success
        root_key = await made.resource_of_key("root")
        await made.key("ci", Role.EDITOR, workspace="default", owner_uid=root_key.uid)
        await made.store.update_status(await made.resource_of_key("ci"), KeyStatus(revoked_at=made.clock.now()))
        yield made


@pytest.fixture
async def root(world: World) -> AsyncIterator[Any]:
    async with world.client(world.keys["root"]) as client:
        yield client


def collector(world: World) -> Collector:
    return Collector(world.store, world.blobs, world.clock, keep_of(world.settings))


async def test_nothing_goes_before_its_time(world: World, root: Any) -> None:
    world.clock.jump(7 * DAY_S - 10)
    for method in ("GET", "POST"):
        found = (await root.request(method, "/gc")).json()
        assert (found["artifacts"], found["blobs"], found["keys"]) == ([], 0, [])
    assert len(await world.store.list_all("artifact")) == 2


async def test_listed_garbage_is_deleted_with_an_event(world: World, root: Any) -> None:
    event = Event(at=world.clock.now(), workspace="default", kind="deployment", name="x", uid="gone", reason="Why")
    await world.store.record([event])
    world.clock.jump(30 * DAY_S + 1)
    found = (await root.get("/gc")).json()
    assert [(a["digest"], a["service"]) for a in found["artifacts"]] == [(UNUSED, "Echo")]
    assert found["keys"] == ["default/ci"]
    assert found["rows"]["events"] >= 1
    assert await world.blobs.has(UNUSED), "it was only shown"
    gone = (await root.post("/gc")).json()
    assert gone == found
    assert [a.name for a in await world.store.list_all("artifact")] == [DIGEST]
    assert (await world.blobs.has(UNUSED), await world.blobs.has(DIGEST)) == (False, True)
    assert await world.store.find("key", "default", "ci") is None
    events = (await root.get("/workspaces/default/events", params={"kind": "platform"})).json()["items"]
    assert "1 artifacts" in events[-1]["message"]
    again = (await root.post("/gc")).json()
    assert (again["artifacts"], again["keys"], again["more"]) == ([], [], False)


async def test_bytes_that_two_workspaces_have_go_with_the_last(world: World, root: Any) -> None:
    await root.post("/workspaces", json={"name": "team"})
    world.clock.jump(DAY_S)
    await root.post("/workspaces/team/artifacts", content=artifact_bytes(b"x = 1\n"))
    world.clock.jump(7 * DAY_S - 60)
    assert [a["workspace"] for a in (await root.post("/gc")).json()["artifacts"]] == ["default"]
    assert await world.blobs.has(UNUSED)
    world.clock.jump(DAY_S)
    assert [a["workspace"] for a in (await root.post("/gc")).json()["artifacts"]] == ["team"]
    assert not await world.blobs.has(UNUSED)


async def test_a_repeated_upload_restarts_the_retention_time(world: World, root: Any) -> None:
    world.clock.jump(7 * DAY_S)
    assert (await root.post("/workspaces/default/artifacts", content=artifact_bytes(b"x = 1\n"))).status_code == 200
    assert (await root.post("/gc")).json()["artifacts"] == []


@pytest.mark.parametrize("scope", [{"workspace": "default"}, {"workspace": "default", "deployments": ("web",)}])
async def test_it_is_for_admins_of_every_workspace(world: World, scope: Any) -> None:
    async with world.client(await world.key("local", **scope)) as client:
        for method in ("GET", "POST"):
            refused = await client.request(method, "/gc")
            assert (refused.status_code, "kaon rm artifact --unused" in refused.json()["hint"]) == (403, True)


async def test_a_pass_takes_so_much_and_the_next_follows_soon(
    world: World, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "AT_ONCE", 1)
    await root.post("/workspaces/default/artifacts", content=artifact_bytes(b"x = 2\n"))
    world.clock.jump(7 * DAY_S)
    retention = RetentionController(collector(world), world.clock)
    assert await retention.once() == AGAIN_S
    assert len(await world.store.list_all("artifact")) == 2
    assert await retention.once() == EVERY_S
    assert [a.name for a in await world.store.list_all("artifact")] == [DIGEST]


async def test_a_store_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The store is away.")

    monkeypatch.setattr(world.store, "list_all", away)
    assert await RetentionController(collector(world), world.clock).once() == EVERY_S
