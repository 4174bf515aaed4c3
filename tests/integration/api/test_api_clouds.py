"""What admins change of clouds, and what people see of one that is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaon.types.cloud import CloudPhase, CloudStatus
from kaon.types.key import Role

from .world import World, populate, world_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await populate(made)
        yield made


async def put_into(world: World, phase: CloudPhase) -> None:
    cloud = await world.store.get("cloud", "", "local")
    await world.store.update_status(cloud, cloud.status.model_copy(update={"phase": phase}))


async def test_an_admin_cordons_a_cloud_and_takes_it_back(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        for verb, cordoned in (("cordon", True), ("cordon", True), ("uncordon", False)):
            answer = await root.post(f"/clouds/local/{verb}")
            assert (answer.status_code, answer.json()["cordoned"]) == (200, cordoned)
            assert (await world.store.get("cloud", "", "local")).spec.cordoned is cordoned
        missing = await root.post("/clouds/nowhere/cordon")
        assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("role", [Role.EDITOR, Role.ADMIN])
async def test_only_admins_of_every_workspace_change_a_cloud(world: World, role: Role) -> None:
    text = await world.key("somebody", role, workspace="default")
    async with world.client(text) as client:
        for answer in (await client.post("/clouds/local/cordon"), await client.delete("/clouds/local")):
            assert answer.status_code == 403, answer.text


async def test_a_cloud_that_reports_is_not_deleted_and_one_that_is_lost_goes_with_its_agents_keys(world: World) -> None:
    gone, kept = [await world.key(f"agent-of-{cloud}", Role.AGENT, cloud=cloud) for cloud in ("local", "other")]
    async with world.client(world.keys["root"]) as root:
        await put_into(world, CloudPhase.READY)
        refused = await root.delete("/clouds/local")
        assert (refused.status_code, "still reports" in refused.json()["detail"]) == (409, True)
        await put_into(world, CloudPhase.LOST)
        assert (await root.delete("/clouds/local")).status_code == 204
    assert await world.store.find("cloud", "", "local") is None
    for key, cloud, status in ((gone, "local", 401), (kept, "other", 204)):
        async with world.client(key) as agent:
            assert (await agent.post(f"/clouds/{cloud}/report", json={"cloud": cloud})).status_code == status


async def test_replicas_of_a_lost_cloud_are_of_unknown_phase(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        before = (await root.get("/workspaces/default/deployments/web/replicas")).json()["items"]
        assert [replica["phase"] for replica in before] == ["Ready"]
        await put_into(world, CloudPhase.LOST)
        for path in ("/workspaces/default/replicas", "/workspaces/default/deployments/web/replicas"):
            replica = (await root.get(path)).json()["items"][0]
            assert (replica["phase"], "reported Ready last" in replica["reason"]) == ("Unknown", True)
        cloud = (await root.get("/clouds")).json()["items"][0]
        assert (cloud["phase"], cloud["ready"], cloud["replicas"] > 0) == ("Lost", 0, True)


async def test_a_cloud_shows_the_health_of_its_place_until_it_is_lost(world: World) -> None:
    agent_key = await world.key("agent-local", Role.AGENT, cloud="local")
    place = {"state": "degraded", "reason": "No disk.", "used": {"cpus": 1.0}, "free": {"cpus": 3.0}}
    await put_into(world, CloudPhase.READY)
    async with world.client(agent_key) as agent:
        assert (await agent.post("/clouds/local/report", json={"cloud": "local", "place": place})).status_code == 204
    async with world.client(world.keys["root"]) as root:
        shown = (await root.get("/clouds/local")).json()["place"]
        assert (shown["state"], shown["reason"], shown["free"]["cpus"]) == ("degraded", "No disk.", 3.0)
        await put_into(world, CloudPhase.LOST)
        lost = (await root.get("/clouds/local")).json()["place"]
        assert (lost["state"], lost["used"], lost["free"]) == ("unavailable", None, None)


async def test_a_report_leaves_the_phase_to_the_control_plane(world: World) -> None:
    agent_key = await world.key("agent-local", Role.AGENT, cloud="local")
    await put_into(world, CloudPhase.LOST)
    async with world.client(agent_key) as agent:
        assert (await agent.post("/clouds/local/report", json={"cloud": "local"})).status_code == 204
    status: CloudStatus = (await world.store.get("cloud", "", "local")).status
    assert (status.phase, status.report is not None) == (CloudPhase.LOST, True)
