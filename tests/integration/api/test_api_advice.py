"""Advice over the API: what stands, for whom, and that its commands' writes are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaon.types.advice import Advice, Advised, Finding
from kaon.types.key import Role

from .world import World, populate, world_of

ALL, WEB = "/workspaces/default/advice", "/workspaces/default/deployments/web/advice"
SAID = Advice(
    workspace="default",
    deployment="web",
    finding=Finding.OVERSIZED,
    since=1,
    evidence="5 replicas are busy 8 % of the time",
    gain="3 of 5 replicas fewer",
    command="kaon scale web --min 2",
)


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        yield made


async def asked(world: World, path: str, key: str = "root") -> Advised:
    async with world.client(world.keys[key]) as client:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return Advised.model_validate_json(answer.content)


async def test_a_deployment_is_advised_well_or_not_known_yet(world: World) -> None:
    assert await asked(world, ALL) == Advised(unknown=("other", "web"))
    live_status = world.app.state.context.live_status
    live_status.keep_advice("default", "web", lambda: (SAID,))
    live_status.keep_advice("default", "other", lambda: ())
    assert await asked(world, ALL) == Advised(items=(SAID,), well=("other",))
    assert await asked(world, WEB) == Advised(items=(SAID,))
    assert await asked(world, "/workspaces/default/deployments/other/advice") == Advised(well=("other",))


async def test_a_watch_sends_only_what_its_key_may_see(world: World) -> None:
    world.app.state.context.live_status.keep_advice("default", "web", lambda: (SAID,))
    await world.key("mine", Role.VIEWER, deployments=("other",))
    assert await asked(world, ALL, "mine") == Advised(unknown=("other",))
    async with world.client(world.keys["mine"]) as client:
        assert (await client.get(WEB)).status_code == 404
        assert (await client.get("/workspaces/default/deployments/none/advice")).status_code == 404
    async with world.client(await world.key("caller", Role.CALLER)) as caller:
        assert (await caller.get(ALL)).status_code == 403
    async with world.client("") as nobody:
        assert (await nobody.get(ALL)).status_code == 401
