"""Many revisions at one edge: what Envoy holds of the system does not grow with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from tests.waiting import until

from kaon import process_locks
from kaon.edge import Edge
from kaon.types.route import Backend, Mirror, ReplicaEndpoint, Route

from .world import World, route

DEPLOYMENTS, REVISIONS = 60, 10

Members = dict[tuple[str, str], tuple[ReplicaEndpoint, ...]]


def inotify_instances(world: World) -> int:
    """How many of them Envoy holds; a user has 128 by default, and Envoy ends when it gets none."""
    folder = f"/proc/{process_locks.leader(world.edge.layout.lock)}/fd"
    found = 0
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found += "inotify" in os.readlink(f"{folder}/{fd}")
    return found


def six_hundred(endpoint: ReplicaEndpoint) -> tuple[tuple[Route, ...], Members]:
    """Sixty deployments of ten revisions each, all at one replica without health checks."""
    silent = endpoint.model_copy(update={"control_address": None})
    numbers = range(1, REVISIONS + 1)
    routes = tuple(
        route(f"d{n}").model_copy(update={"backends": tuple(Backend(revision=r, weight=10) for r in numbers)})
        for n in range(DEPLOYMENTS)
    )
    revisions = tuple(silent.model_copy(update={"revision": r}) for r in numbers)
    return routes, {("default", f"d{n}"): revisions for n in range(DEPLOYMENTS)}


async def test_six_hundred_revisions_answer_and_take_no_further_watches(world: World) -> None:
    replica = await world.replica()
    before = inotify_instances(world)
    await world.edge.apply(*six_hundred(replica.endpoint))
    for n in range(DEPLOYMENTS):
        named = [
            world.client.get(f"/d{n}", headers={"x-kaon-revision": str(r + 1)}, timeout=30) for r in range(REVISIONS)
        ]
        assert [answer.status_code for answer in await asyncio.gather(*named)] == [200] * REVISIONS
    answered = (await world.edge.counts()).clusters
    assert len([name for name, of in answered.items() if of.answers.get("2xx") == 1]) == DEPLOYMENTS * REVISIONS
    assert inotify_instances(world) == before


async def test_replicas_are_kept_while_the_agent_is_away_and_changed_when_it_is_back(world: World) -> None:
    old, new = await world.replica("old"), await world.replica("new")
    await world.serve(old)
    await world.leave()
    for _ in range(3):
        assert (await world.client.get("/shop")).status_code == 200
    world.edge = Edge(world.settings)
    world.supervise()
    await world.serve(new)

    async def only_the_new() -> bool:
        before = len(old.calls)
        assert (await world.client.get("/shop")).status_code == 200
        return len(old.calls) == before

    await until(only_the_new)


async def test_a_new_envoy_under_a_new_agent_begins_with_the_replicas_that_were_known(world: World) -> None:
    await world.serve(await world.replica())
    await world.leave()
    pid = process_locks.leader(world.edge.layout.lock)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    world.edge = Edge(world.settings)
    world.supervise()  # without routes yet

    async def serves() -> bool:
        try:
            return (await world.client.get("/shop")).status_code == 200
        except Exception:
            return False

    await until(serves)


async def test_a_second_cluster_of_the_same_replicas_is_told_of_them_too(world: World) -> None:
    """The cluster of a shadow, and one that is made anew since its definition changes (hedges), get their replicas
    again."""
    one, two = await world.replica("one"), await world.replica("two", revision=2)
    members = {("default", "shop"): (one.endpoint, two.endpoint)}
    shop = route("shop", (1,), retry_paths=("/slow",))
    shop = shop.model_copy(update={"backends": (Backend(revision=1, weight=100), Backend(revision=2, weight=0))})
    await world.edge.apply((shop,), members)

    copied = shop.model_copy(update={"mirror": Mirror(revision=2, percent=100), "hedges": {"/slow": 5.0}})
    await world.edge.apply((copied,), members)

    async def copies_arrive() -> bool:
        assert (await world.client.get("/shop")).status_code == 200
        return bool(two.calls)

    await until(copies_arrive, 2.0)  # sooner than a cluster gives up waiting for its replicas
