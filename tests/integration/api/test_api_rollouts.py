"""Canaries and shadows over the API: promotion, copies, and what is told of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.types.deployment import CanaryStatus, RevisionSpec, RevisionStatus, RolloutState, Template, template_hash
from kaon.types.shadow import Difference, Example, ShadowReport

from .world import DIGEST, World, populate, world_of

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


async def web(world: World) -> Any:
    return await world.store.get("deployment", "default", "web")


async def stand(world: World, **status: object) -> None:
    """Let the status be so."""
    found = await web(world)
    status = {"observed_generation": found.generation, "stable": 1, "target": 1, **status}
    await world.store.update_status(found, status_with(found.status, **status))


async def second_revision(world: World, template: Template | None = None) -> Template:
    template = template or Template(artifact=DIGEST, env={"N": "2"})
    spec = RevisionSpec(
        deployment="web",
        deployment_uid=(await web(world)).uid,
        number=2,
        template=template,
        template_hash=template_hash(template),
    )
    await world.store.create("revision", "default", "web-2", spec)
    return template


async def on_trial(world: World) -> None:
    """Let the spec's template be revision 2, and a canary."""
    await second_revision(world, (await web(world)).spec.template)
    await stand(world, target=2, state=RolloutState.PROGRESSING, canary=CanaryStatus(revision=2, since=1))


async def test_promotion_of_a_canary_is_in_the_spec_and_an_event(world: World, root: Any) -> None:
    await on_trial(world)
    answer = await root.post(f"{WEB}/promote")
    assert (answer.status_code, answer.json()["spec"]["promoted"]) == (200, 2)
    assert (await world.store.events("default"))[-1].reason == "Promoted"
    assert (await root.post(f"{WEB}/promote")).status_code == 200, "again, before a controller has read the first"


async def test_a_promotion_stays_while_the_template_does_and_ends_with_it(world: World, root: Any) -> None:
    await on_trial(world)
    await root.post(f"{WEB}/promote")
    spec = (await root.get(WEB)).json()["spec"]
    same = {name: spec[name] for name in ("template", "scaling")}
    assert (await root.put(WEB, json=same | {"public": True})).json()["spec"]["promoted"] == 2
    another = same | {"template": spec["template"] | {"env": {"N": "3"}}}
    assert (await root.put(WEB, json=another)).json()["spec"]["promoted"] is None


@pytest.mark.parametrize("state", [RolloutState.STOPPED, RolloutState.STABLE])
async def test_without_anything_on_trial_promotion_is_refused_with_what_to_do(
    world: World, root: Any, state: RolloutState
) -> None:
    canary = CanaryStatus(revision=2, since=1) if state is RolloutState.STOPPED else None
    await stand(world, state=state, canary=canary)
    answer = await root.post(f"{WEB}/promote")
    assert answer.status_code == 422
    assert "kaon rollout status web" in answer.json()["hint"]


async def test_a_template_may_run_as_a_shadow_and_be_promoted_to_what_should_serve(world: World, root: Any) -> None:
    template = {"artifact": DIGEST, "env": {"N": "2"}}
    put = await root.put(f"{WEB}/shadow", json={"template": template, "percent": 25})
    assert (put.status_code, put.json()["spec"]["shadow"]["percent"]) == (200, 25)
    assert put.json()["spec"]["template"]["env"] == {}
    promoted = await root.post(f"{WEB}/promote")
    assert promoted.json()["spec"]["template"]["env"] == {"N": "2"}
    assert promoted.json()["spec"]["shadow"] is None


async def test_a_revision_of_the_history_may_be_a_shadow_and_be_dropped(world: World, root: Any) -> None:
    template = await second_revision(world)
    assert (await root.put(f"{WEB}/shadow", json={"revision": 2})).status_code == 200
    assert (await root.post(f"{WEB}/promote")).json()["spec"]["template"] == template.model_dump(mode="json")
    await root.put(f"{WEB}/shadow", json={"revision": 1})
    assert (await root.delete(f"{WEB}/shadow")).status_code == 204
    assert (await web(world)).spec.shadow is None


@pytest.mark.parametrize(
    "body",
    [
        {"revision": 1},
        {"revision": 9},
        {},
        {"revision": 2, "template": {"artifact": DIGEST}},
        {"revision": 2, "percent": 0},
        {"revision": 2, "percent": 101},
        {"template": {"artifact": f"sha256:{'f' * 64}"}},
        {"template": {"artifact": DIGEST, "secrets": {"T": "identity-other"}}},
        {"template": {"artifact": DIGEST, "env": {"KAON_KEY": "x"}}},
    ],
)
async def test_a_shadow_that_cannot_be_is_refused(world: World, root: Any, body: dict[str, Any]) -> None:
    await second_revision(world)
    await stand(world)
    assert (await root.put(f"{WEB}/shadow", json=body)).status_code == 422
    assert (await web(world)).spec.shadow is None


async def test_a_key_for_some_deployments_gives_a_shadow_no_other_secrets(world: World) -> None:
    key = await world.key("scoped", deployments=("web",), workspace="default")
    body = {"template": {"artifact": DIGEST, "secrets": {"T": "token"}}}
    async with world.client(key) as client, world.client(world.keys["root"]) as root:
        await root.put("/workspaces/default/secrets/other", json={"value": "x"})
        assert (await client.put(f"{WEB}/shadow", json=body)).status_code == 200
        body["template"]["secrets"] = {"T": "other"}
        assert (await client.put(f"{WEB}/shadow", json=body)).status_code == 403


async def test_the_comparison_comes_from_the_agent_for_keys_that_may_read(world: World, root: Any) -> None:
    await second_revision(world)
    await root.put(f"{WEB}/shadow", json={"revision": 2, "percent": 10})
    await stand(world, shadow=2)
    example = Example(request_id="r1", endpoint="score", at=5, differences=(Difference(path="a", serving=1, shadow=2),))
    report = ShadowReport(matched=7, differing=1, since=3, paths={"score a": 1}, examples=(example,))

    async def agent() -> None:
        broker = world.app.state.context.broker
        call = await broker.next_call("local", 5)
        assert (call.call, call.arguments) == ("shadow", {"workspace": "default", "deployment": "web"})

        async def lines() -> AsyncIterator[bytes]:
            yield report.model_dump_json().encode() + b"\n"

        await broker.answer("local", call.id, lines())

    _, answer = await asyncio.gather(agent(), root.get(f"{WEB}/shadow"))
    assert answer.status_code == 200
    got = ShadowReport.model_validate(answer.json())
    assert got == report.model_copy(update={"revision": 2, "percent": 10})


async def test_without_a_shadow_there_is_nothing_to_compare(world: World, root: Any) -> None:
    answer = await root.get(f"{WEB}/shadow")
    assert (answer.status_code, answer.json()["revision"]) == (200, 0)


async def test_an_undo_in_the_middle_of_a_trial_goes_back_to_what_serves(world: World, root: Any) -> None:
    await second_revision(world)
    third = Template(artifact=DIGEST, env={"N": "3"})
    uid = (await web(world)).uid
    spec = RevisionSpec(
        deployment="web", deployment_uid=uid, number=3, template=third, template_hash=template_hash(third)
    )
    await world.store.create("revision", "default", "web-3", spec)
    await root.put(WEB, json={"template": third.model_dump(mode="json")})
    await stand(world, target=3, state=RolloutState.PROGRESSING, canary=CanaryStatus(revision=3, since=1))
    undone = await root.post(f"{WEB}/undo")
    assert undone.json()["spec"]["template"]["env"] == {}  # revision 1's, not 2's


async def test_the_history_has_the_outcome_of_each_revision(world: World, root: Any) -> None:
    await second_revision(world)
    revision = await world.store.get("revision", "default", "web-2")
    await world.store.update_status(revision, RevisionStatus(outcome="rolled back", reason="It failed.", at=1))
    items = (await root.get(f"{WEB}/revisions")).json()["items"]
    assert [(i["outcome"], i["reason"]) for i in items] == [("", ""), ("rolled back", "It failed.")]
