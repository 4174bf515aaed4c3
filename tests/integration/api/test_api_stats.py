"""How a deployment does, over the API: windows, series, metrics."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.types.key import Role
from kaon.types.traffic import ColdStart, Sample, Traffic
from kaon.types.window import Stats

from .world import World, populate, world_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await populate(made)
        made.clock.jump(7200.5)
        yield made


def sample(at_s: float, revision: int = 1, deployment: str = "web", **fields: Any) -> Sample:
    given = {"workspace": "default", "deployment": deployment, "revision": revision, "at_s": at_s, "span_s": 1.0}
    given |= {"cloud": "local", "arrivals": 10, "codes": {"2xx": 9, "5xx": 1}, "latency": {10: 9}, "in_flight": 2}
    given |= {"busy_s": 0.5, "ready": 1}
    return Sample.model_validate(given | fields)


async def post(world: World, *samples: Sample) -> None:
    key = world.keys.get("agent") or await world.key("agent", Role.AGENT, cloud="local")
    async with world.client(key) as agent:
        body = Traffic(cloud="local", samples=samples).model_dump(mode="json")
        assert (await agent.post("/clouds/local/traffic", json=body)).status_code == 200


async def stats(world: World, **query: Any) -> Stats:
    async with world.client(world.keys["root"]) as root:
        answer = await root.get("/workspaces/default/deployments/web/stats", params=query)
        assert answer.status_code == 200, answer.text
        return Stats.model_validate_json(answer.content)


async def test_windows_are_in_sum_and_by_revision_and_the_series_has_each_second(world: World) -> None:
    now = world.clock.now()
    await post(world, *(sample(now - back, revision) for back in range(30, 0, -1) for revision in (1, 2)))
    found = await stats(world, span_s=60)
    assert [w.span_s for w in found.windows] == [12, 60, 1800]
    assert [(w.rps, w.failed) for w in found.windows] == [(20, 0.1)] * 3
    assert (found.windows[0].in_flight, found.windows[0].ready, found.windows[0].busy) == (4, 2, 0.5)
    assert found.windows[0].loss is not None
    assert [(r.revision, r.windows[1].rps) for r in found.revisions] == [(1, 10), (2, 10)]
    assert (found.step_s, len(found.series)) == (1, 60)
    assert [p.rps for p in found.series] == [None] * 30 + [20] * 30
    assert found.series[-1].at_s == math.floor(now)
    assert found.series[-1].failed_rps == 2


async def test_a_deployment_without_a_sample_is_known_to_be_unknown(world: World) -> None:
    found = await stats(world)
    assert [(w.at_s, w.rps, w.p90_s, w.loss) for w in found.windows] == [(0, None, None, None)] * 3
    assert {(p.rps, p.ready) for p in found.series} == {(None, None)}
    assert found.revisions == ()


async def test_a_shadow_is_listed_and_in_no_total(world: World) -> None:
    now = world.clock.now()
    web = await world.store.get("deployment", "default", "web")
    await world.store.update_status(web, status_with(web.status, shadow=2))
    await post(world, sample(now - 1), sample(now - 1, 2))
    found = await stats(world)
    assert found.windows[0].arrivals == 10
    assert [(r.revision, r.shadow, r.windows[0].arrivals) for r in found.revisions] == [(1, False, 10), (2, True, 10)]


async def test_longer_series_are_of_minutes_from_the_store(world: World) -> None:
    now = world.clock.now()
    ends = [math.floor(now / 60) * 60 - back for back in range(0, 3600, 60)]
    await world.store.keep_traffic([sample(end, span_s=60.0, arrivals=600) for end in ends])
    found = await stats(world, span_s=3600)
    assert (found.step_s, len(found.series)) == (60, 60)
    assert [p.rps for p in found.series] == [10] * 60
    assert found.series[0].loss is not None
    week = await stats(world, span_s=7 * 86_400)
    assert len(week.series) <= 1500
    assert week.series[-1].rps == 10


@pytest.mark.parametrize("span", ["0", "-1", "nan", "inf", "1e9", "x"])
async def test_a_span_that_makes_no_sense_is_refused(world: World, span: str) -> None:
    async with world.client(world.keys["root"]) as root:
        answer = await root.get("/workspaces/default/deployments/web/stats", params={"span_s": span})
        assert answer.status_code in (400, 422)


async def test_a_deployment_that_is_not_there_has_no_stats(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        assert (await root.get("/workspaces/default/deployments/nobody/stats")).status_code == 404


def values(text: str) -> dict[str, float]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def scrape(world: World, key: str = "root") -> dict[str, float]:
    """What the metrics say of deployments."""
    async with world.client(world.keys[key]) as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {name: value for name, value in values(answer.text).items() if name.startswith("kaon_deployment")}


async def test_the_platform_s_own_metrics_are_for_keys_of_every_workspace(world: World) -> None:
    world.app.state.context.live_status.failures.note("planning", ("", "local"), ValueError("a bug"))
    await world.key("mine", Role.ADMIN, workspace="default")
    seen = {}
    for key in ("root", "mine"):
        async with world.client(world.keys[key]) as client:
            seen[key] = values((await client.get("/metrics")).text)
    assert seen["root"]['kaon_controller_failures_total{controller="planning"}'] == 1
    assert seen["root"]['kaon_controller_failing{controller="planning"}'] == 1
    assert seen["root"]['kaon_unreadable_rows{kind="deployment"}'] == 0
    assert not any(name.startswith(("kaon_controller", "kaon_unreadable")) for name in seen["mine"])


OF_WEB = 'workspace="default",deployment="web",revision="1"'


async def test_one_scrape_sees_every_deployment_and_counters_only_rise(world: World) -> None:
    assert await scrape(world) == {}
    now = world.clock.now()
    world.clock.jump(3)
    start = ColdStart(replica="a", install_s=1, start_s=2, load_s=3)
    await post(world, sample(now + 1, starts=[start]), sample(now + 1, deployment="other"))
    first = await scrape(world)
    assert first[f"kaon_deployment_arrivals_total{{{OF_WEB}}}"] == 10
    assert first[f'kaon_deployment_answers_total{{{OF_WEB},class="5xx"}}'] == 1
    assert first[f'kaon_deployment_start_seconds_total{{{OF_WEB},part="load"}}'] == 3
    assert first[f'kaon_deployment_latency_seconds_bucket{{{OF_WEB},le="+Inf"}}'] == 9
    assert first[f"kaon_deployment_in_flight{{{OF_WEB}}}"] == 2
    assert any('deployment="other"' in name for name in first)
    await post(world, sample(now + 2, in_flight=5))
    second = await scrape(world)
    assert second[f"kaon_deployment_arrivals_total{{{OF_WEB}}}"] == 20
    assert second[f"kaon_deployment_in_flight{{{OF_WEB}}}"] == 5
    assert await scrape(world) == second


async def test_what_an_agent_sends_again_after_a_restart_is_no_new_traffic(world: World) -> None:
    now = world.clock.now()
    await post(world, *(sample(now - back) for back in range(100, 0, -1)))
    assert await scrape(world) == {}


async def test_a_key_sees_the_metrics_of_its_own_deployments_only(world: World) -> None:
    await world.key("narrow", Role.VIEWER, workspace="default", deployments=("web",))
    await scrape(world)
    world.clock.jump(2)
    now = world.clock.now()
    await post(world, sample(now), sample(now, deployment="other"))
    assert any('deployment="other"' in name for name in await scrape(world))
    seen = await scrape(world, "narrow")
    assert seen
    assert all('deployment="web"' in name for name in seen)


async def test_every_metric_is_of_its_documented_type(world: World) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from kaon.api.meters import METRICS, PLATFORM_METRICS

    await scrape(world)
    world.clock.jump(2)
    await post(world, sample(world.clock.now()))
    async with world.client(world.keys["root"]) as client:
        families = {f.name: f for f in text_string_to_metric_families((await client.get("/metrics")).text)}
    for name, described in (METRICS | PLATFORM_METRICS).items():
        family = families[name.removesuffix("_total")]
        assert family.type == described.type
        for one in family.samples:
            assert set(one.labels) - {"le"} == set(described.labels), name
