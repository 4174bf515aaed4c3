"""What was decided, as the API tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaon.types.journal import JournalEntry
from kaon.types.key import Role

from .world import World, populate, world_of

WEB = "/workspaces/default/deployments/web/decisions"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path / "home") as made:
        await populate(made)
        made.clock.jump(1000)
        yield made


def entry(world: World, ago_s: float, after: str, concern: str = "scaling") -> JournalEntry:
    at = world.clock.now() - ago_s
    return JournalEntry(
        at=at, workspace="default", deployment="web", concern=concern, before="1", after=after, reason="why"
    )


async def test_decisions_come_oldest_first_and_by_concern_age_and_number(world: World) -> None:
    viewer: Any = world.client(await world.key("viewer", Role.VIEWER))
    entries = [entry(world, 900, "2"), entry(world, 60, "revision 3", "rollout"), entry(world, 5, "4")]
    await world.store.keep_journal(entries)

    async def told(**query: object) -> list[str]:
        answer = await viewer.get(WEB, params=query)
        assert answer.status_code == 200
        return [item["after"] for item in answer.json()["items"]]

    assert await told() == ["2", "revision 3", "4"]
    assert await told(concern="scaling") == ["2", "4"]
    assert await told(since_s=600) == ["revision 3", "4"]
    assert await told(limit=1) == ["4"]
    assert (await viewer.get(WEB)).json()["now"] is None


async def test_the_current_decision_of_the_law_is_in_the_answer(world: World) -> None:
    viewer: Any = world.client(await world.key("viewer", Role.VIEWER))
    world.app.state.context.live_status.keep("default", "web", lambda: entry(world, 0, "7"))
    assert (await viewer.get(WEB)).json()["now"]["after"] == "7"


async def test_figures_that_are_lists_can_be_left_out(world: World) -> None:
    viewer: Any = world.client(await world.key("viewer", Role.VIEWER))
    figures = {"kind": "epoch", "predicted": 0.05, "looks": [[{"max_batch": 8.0}, True, [[0.9, 120, 119, 0]]]]}
    await world.store.keep_journal([entry(world, 5, "x", "tuning").model_copy(update={"figures": figures})])

    async def told(**query: object) -> dict[str, object]:
        found: dict[str, object] = (await viewer.get(WEB, params=query)).json()["items"][0]["figures"]
        return found

    assert await told(concern="tuning") == figures
    assert await told(lists="false") == {"kind": "epoch", "predicted": 0.05}


@pytest.mark.parametrize("query", [{"since_s": "-1"}, {"since_s": "nan"}, {"limit": 0}, {"concern": "A'--"}, {"x": 1}])
async def test_a_query_that_makes_no_sense_is_refused(world: World, query: dict[str, Any]) -> None:
    viewer: Any = world.client(await world.key("viewer", Role.VIEWER))
    assert (await viewer.get(WEB, params=query)).status_code in (400, 422)
