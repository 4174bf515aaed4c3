"""What Envoy refuses of one deployment is left out for that one alone; a real Envoy refuses it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from tests.waiting import until

from kaon import process_locks
from kaon.edge import Edge, resources
from kaon.edge.resources import limits
from kaon.edge.resources.wire import response
from kaon.types.route import Route

from .world import World, route

BAD = {("default", "d3"), ("default", "d17")}
NAMES = [f"d{n}" for n in range(24)]


@pytest.fixture
def spoils(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules with a time limit of 666 s become routes that Envoy refuses, in a way that no check of Kaon covers."""
    make = resources.routes

    def spoilt(table: Any) -> Any:
        document = make(table)
        bad = {rule.prefix for rule in table.rules if rule.timeout_s == 666}
        for found in document["resources"][0]["virtual_hosts"][0]["routes"]:
            if bad & {found["match"].get("path_separated_prefix")} and "route" in found:
                found["route"]["timeout"] = "-1s"
        return response(document["resources"])

    monkeypatch.setattr(resources, "routes", spoilt)


def routes(timeout_s: float, bad: float = 666.0) -> tuple[Route, ...]:
    return tuple(route(name, timeout_s=bad if ("default", name) in BAD else timeout_s) for name in NAMES)


async def status_of(world: World, name: str) -> int:
    return (await world.client.get(f"/{name}")).status_code


@pytest.mark.usefixtures("spoils")
async def test_those_at_fault_are_found_and_all_others_go_on(world: World) -> None:
    replica = await world.replica()
    members = {("default", name): (replica.endpoint,) for name in NAMES}
    await world.edge.apply(routes(60), members)
    assert world.edge.refused.keys() == BAD
    left_out = (await world.edge.status()).refused
    assert left_out.keys() == {"default/d3", "default/d17"}
    assert all("duration" in why for why in left_out.values())
    for name in NAMES:
        assert await status_of(world, name) == (401 if ("default", name) in BAD else 200)


@pytest.mark.usefixtures("spoils")
async def test_a_refused_change_leaves_the_last_good_routes_in_force_with_the_replicas_of_now(world: World) -> None:
    old, new = await world.replica("old"), await world.replica("new")
    await world.edge.apply(routes(60, bad=60), {("default", name): (old.endpoint,) for name in NAMES})
    await world.edge.apply(routes(30), {("default", name): (new.endpoint,) for name in NAMES})
    assert world.edge.refused.keys() == BAD

    async def moved() -> bool:
        before = len(old.calls)
        for name in NAMES:
            assert await status_of(world, name) == 200
        return len(old.calls) == before

    await until(moved)  # old ones are leaving, and get nothing new
    await world.edge.apply(routes(30, bad=30), {("default", name): (new.endpoint,) for name in NAMES})
    assert world.edge.refused == {}


@pytest.mark.usefixtures("spoils")
async def test_whoever_serves_is_never_taken_out_to_find_who_is_at_fault(world: World) -> None:
    """Neither by the agent that has served it, nor by the next one, which tries all anew."""
    replica = await world.replica()
    members = {("default", name): (replica.endpoint,) for name in NAMES}
    await world.edge.apply(routes(60), members)
    in_force: set[frozenset[str]] = set()
    take = type(world.edge.configuration).take

    async def watched(self: Any, step: Any) -> str:
        refused = await take(self, step)
        document = next((sent for path, sent in step.items() if path == self._layout.routes), None)
        if document and not refused:
            all_of = document["resources"][0]["virtual_hosts"][0]["routes"]
            in_force.add(frozenset(found["match"].get("path_separated_prefix", "") for found in all_of))
        return refused

    await world.leave()
    world.edge = Edge(world.settings)
    world.supervise()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.edge.configuration), "take", watched)
        await world.edge.apply(routes(30), members)
    assert world.edge.refused.keys() == BAD
    good = {f"/{name}" for name in NAMES if ("default", name) not in BAD}
    assert in_force
    assert all(good <= prefixes for prefixes in in_force)


@pytest.mark.usefixtures("spoils")
async def test_an_envoy_that_starts_anew_has_nothing_of_what_was_refused(world: World) -> None:
    replica = await world.replica()
    await world.edge.apply(routes(60), {("default", name): (replica.endpoint,) for name in NAMES})
    pid = process_locks.leader(world.edge.layout.lock)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    async def serves() -> bool:
        try:
            return await status_of(world, "d0") == 200
        except Exception:
            return False

    await until(serves)


@pytest.mark.parametrize(
    "path",
    ["/" + "a" * 1023, "/{x}" * 256, "/" + "a{b}" * 255, "/" + ".*" * 500],
    ids=["long", "parameters", "mixed", "characters of patterns"],
)
async def test_any_path_that_the_edge_takes_is_one_that_envoy_takes(world: World, path: str) -> None:
    """Envoy's own limit on patterns is 100; the longest of names before the longest of paths must be within ours."""
    replica = await world.replica()
    workspace, name = "w" * 40, "d" * 40
    long = Route(
        workspace=workspace,
        deployment=name,
        prefix=f"/~{workspace}/{name}",
        backends=route().backends,
        retry_paths=(path,),
        stream_paths=(path,),
        hedges={path: 1.0},
    )
    await world.edge.apply((route(), long), {(workspace, name): (replica.endpoint,)})
    assert world.edge.refused == {}
    assert (await world.client.get(f"{long.prefix}{path.replace('{x}', 'y').replace('{b}', 'y')}")).status_code == 200


def test_the_limit_on_patterns_is_one_that_a_table_cannot_reach() -> None:
    """Four instructions for each parameter of three characters, one for any other character."""
    assert limits.PATTERN_MAX > 4 * 1024 + 200
