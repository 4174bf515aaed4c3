"""A workspace or a deployment that is made again sees nothing of the one that had its name before.

Each kind of what is kept by a name is left behind by the first and looked for by the second, in every store. `KEPT` has
them; a table of the database that is kept by name and that nobody looks at here fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kaon.clock import FakeClock
from kaon.control.deployments import DeploymentController
from kaon.control.minutes import MinutesController
from kaon.drivers.process.places import Places, private_folder
from kaon.store import open_store
from kaon.store.schema import metadata
from kaon.types.advice import Advice
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.plan import Report
from kaon.types.replica import Phase, ReplicaStatus, replica_id
from kaon.types.resource import Deployment
from kaon.types.traffic import Sample, Traffic
from kaon.types.tuning import TuningState, TuningStatus

from .api.world import DIGEST, World, artifact_bytes, world_of

PLACE = ("shop", "web")
AT = "/workspaces/shop/deployments/web"
TRACE = "trace-of-the-first"
STORES = {"memory": "memory://", "sqlite": "sqlite:///{home}/server/kaon.db"}


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path, open_store(STORES[request.param].format(home=tmp_path), FakeClock())) as made:
        made.store._clock = made.clock  # type: ignore[attr-defined]
        yield made


async def make(world: World) -> Deployment:
    """The workspace, if there is none, and the deployment in it; both as a user makes them."""
    async with world.client(world.keys["root"]) as root:
        await root.post("/workspaces", json={"name": "shop"})
        await root.post("/workspaces/shop/artifacts", content=artifact_bytes())
        answer = await root.put(AT, json={"template": {"artifact": DIGEST}})
        assert answer.status_code == 201, answer.text
    return await world.store.get("deployment", *PLACE)


async def looked_at(world: World, path: str, **query: Any) -> str:
    async with world.client(world.keys["root"]) as root:
        answer: httpx2.Response = await root.get(path, params=query)
        assert answer.status_code in (200, 404), answer.text
        return answer.text


# How each kind is left behind, and where one would see it. `leave` is called while the first is there, and, where that
# can happen, once more when the second is: something of the first may still be running then.

Leave = Callable[[World, Deployment], Awaitable[None]]
Look = Callable[[World, Deployment], Awaitable[str]]


def sample(world: World, revision: int = 77, back_s: float = 1.0) -> Sample:
    whose = {"workspace": "shop", "deployment": "web", "revision": revision, "cloud": "local"}
    return Sample(at_s=world.clock.now() - back_s, span_s=1.0, arrivals=10, codes={"2xx": 10}, **whose)


async def leave_traffic(world: World, _: Deployment) -> None:
    world.clock.jump(120)
    await world.store.keep_traffic([sample(world, back_s=60).model_copy(update={"cloud": ""})])


async def look_traffic(world: World, _: Deployment) -> str:
    found = await world.store.traffic(*PLACE, 0)
    return f"{TRACE} {found}" if found else await looked_at(world, f"{AT}/stats", span_s=86_400)


async def leave_ring(world: World, _: Deployment) -> None:
    ring = world.app.state.context.traffic
    world.clock.jump(2)
    ring.add(Traffic(cloud="local", after_s=ring.until("local"), samples=(sample(world),)), world.clock.now())


async def look_ring(world: World, _: Deployment) -> str:
    text = await looked_at(world, f"{AT}/stats", span_s=86_400)
    return text.replace('"revision":77', TRACE)


async def leave_meters(world: World, first: Deployment) -> None:
    await looked_at(world, "/metrics")
    await leave_ring(world, first)
    await looked_at(world, "/metrics")


async def look_meters(world: World, _: Deployment) -> str:
    return (await looked_at(world, "/metrics")).replace('revision="77"', TRACE)


async def look_minutes(world: World, _: Deployment) -> str:
    world.clock.jump(120)
    await MinutesController(world.store, world.clock, world.app.state.context.traffic).tick()
    return TRACE if await world.store.traffic(*PLACE, 0) else ""


async def leave_journal(world: World, first: Deployment) -> None:
    entry = {"workspace": "shop", "deployment": "web", "concern": "tuning", "after": "x", "reason": TRACE}
    await world.store.keep_journal([JournalEntry(at=world.clock.now(), uid=first.uid, **entry)])


async def look_journal(world: World, _: Deployment) -> str:
    return await looked_at(world, f"{AT}/decisions", limit=1000)


async def leave_events(world: World, first: Deployment) -> None:
    event = {"workspace": "shop", "kind": "deployment", "name": "web", "reason": "X", "message": TRACE}
    await world.store.record([Event(at=world.clock.now(), uid=first.uid, **event)])


async def look_events(world: World, _: Deployment) -> str:
    narrow = world.client(await world.key("narrow", workspace="shop", deployments=("web",)))
    async with narrow as client:
        own = (await client.get("/workspaces/shop/events")).text
    await world.store.delete(await world.resource_of_key("narrow"))
    return own + await looked_at(world, "/workspaces/shop/events", kind="deployment", name="web", limit=1000)


async def leave_live_status(world: World, first: Deployment) -> None:
    live_status = world.app.state.context.live_status
    whose = {"workspace": "shop", "deployment": "web"}
    entry = JournalEntry(at=1, concern="scaling", after="1", reason=TRACE, **whose)
    state = TuningState(mode="auto", state="still", reason=TRACE, **whose)
    advice = Advice(finding="errors", evidence=TRACE, gain=TRACE, command=TRACE, since=1, **whose)
    live_status.keep(*PLACE, lambda: entry, first.uid)
    live_status.keep_tuning(*PLACE, lambda: state, first.uid)
    live_status.keep_advice(*PLACE, lambda: (advice,), first.uid)


async def look_live_status(world: World, _: Deployment) -> str:
    places = [f"{AT}/{part}" for part in ("decisions", "tuning", "advice")] + ["/workspaces/shop/advice"]
    return "".join([await looked_at(world, place) for place in places])


async def leave_status(world: World, _: Deployment) -> None:
    deployment = await world.store.get("deployment", *PLACE)
    tuned = TuningStatus(values={"max_batch": 77.0})
    await world.store.update_status(deployment, deployment.status.model_copy(update={"tuning": tuned}))


async def look_status(world: World, second: Deployment) -> str:
    return second.status.model_dump_json().replace("77.0", TRACE)


async def reconciled(world: World, _: Deployment) -> None:
    await DeploymentController(world.store, world.vault, world.clock).reconcile(PLACE)


async def leave_revisions(world: World, first: Deployment) -> None:
    spec = DeploymentSpec(template=Template(artifact=DIGEST, env={"NOTE": TRACE}))
    await world.store.update_spec(await world.store.get("deployment", *PLACE), spec)
    await reconciled(world, first)


async def look_revisions(world: World, _: Deployment) -> str:
    return await looked_at(world, f"{AT}/revisions")


async def leave_identity(world: World, first: Deployment) -> None:
    await reconciled(world, first)
    world.keys["of the first"] = await text_of_identity(world)


async def text_of_identity(world: World) -> str:
    secret = await world.store.find("secret", "shop", "identity-web")
    return world.vault.open("shop", "identity-web", secret.spec) if secret else ""


async def look_identity(world: World, second: Deployment) -> str:
    await reconciled(world, second)
    return TRACE if await text_of_identity(world) == world.keys["of the first"] else ""


async def leave_replicas(world: World, first: Deployment) -> None:
    whose = {"workspace": "shop", "deployment": "web", "revision": 1, "name": "web-1-0", "last_lines": (TRACE,)}
    replica = ReplicaStatus(id=replica_id("shop", first.uid, 1, 0), phase=Phase.DRAINING, **whose)
    if (cloud := await world.store.find("cloud", "", "local")) is None:
        cloud = await world.store.create("cloud", "", "local", CloudSpec())
    report = Report(cloud="local", replicas=(replica,))
    await world.store.update_status(cloud, CloudStatus(report=report, seen_at=world.clock.now()))


async def look_replicas(world: World, _: Deployment) -> str:
    places = [f"{AT}/replicas", "/workspaces/shop/replicas"]  # logs are read of the same replicas
    return "".join([await looked_at(world, place) for place in places])


def volume(world: World, deployment: Deployment) -> Path:
    places = Places(world.settings.home / "agent", world.settings.home / "run")
    return private_folder(places.volume(*PLACE, deployment.uid))


async def leave_volume(world: World, first: Deployment) -> None:
    (volume(world, first) / "file").write_text(TRACE)


async def look_volume(world: World, second: Deployment) -> str:
    return "".join(file.read_text() for file in volume(world, second).iterdir())


KEPT: dict[str, tuple[Leave, Look]] = {
    "traffic": (leave_traffic, look_traffic),
    "traffic in memory": (leave_ring, look_ring),
    "traffic that becomes minutes": (leave_ring, look_minutes),
    "metrics": (leave_meters, look_meters),
    "journal": (leave_journal, look_journal),
    "events": (leave_events, look_events),
    "live status": (leave_live_status, look_live_status),
    "resources: status": (leave_status, look_status),
    "resources: revisions": (leave_revisions, look_revisions),
    "resources: identity": (leave_identity, look_identity),
    "replicas": (leave_replicas, look_replicas),
    "volume": (leave_volume, look_volume),
}
LATE = ("journal", "events", "live status", "replicas")
"""What somebody may still write of the first when the second is there."""


async def unmake(world: World, *, workspace: bool) -> None:
    async with world.client(world.keys["root"]) as root:
        assert (await root.delete(AT)).status_code == 204
        if workspace:
            assert (await root.delete("/workspaces/shop")).status_code == 204
    world.clock.jump(1)


@pytest.mark.parametrize("whole", [False, True], ids=["deployment", "workspace"])
@pytest.mark.parametrize("kind", KEPT)
async def test_nothing_is_seen_of_the_one_before(world: World, kind: str, whole: bool) -> None:
    leave, look = KEPT[kind]
    first = await make(world)
    await leave(world, first)
    if kind not in ("resources: status", "resources: identity"):
        assert TRACE in await look(world, first), "the test must be able to fail"
    await unmake(world, workspace=whole)
    second = await make(world)
    assert second.uid != first.uid
    assert TRACE not in await look(world, second)
    if kind in LATE:
        await leave(world, first)
        assert TRACE not in await look(world, second)


@pytest.mark.parametrize("kind", ["artifact", "secret", "key"])
async def test_what_is_the_workspaces_goes_with_it(world: World, kind: str) -> None:
    await make(world)
    async with world.client(world.keys["root"]) as root:
        await root.put("/workspaces/shop/secrets/token", json={"value": "x"})
        await root.post("/workspaces/shop/keys", json={"name": "mine", "role": "viewer"})
        await reconciled(world, await world.store.get("deployment", *PLACE))
        await unmake(world, workspace=True)
        await root.post("/workspaces", json={"name": "shop"})
    assert await world.store.list_all(kind, "shop") == []


def test_every_table_that_is_kept_by_name_is_looked_at() -> None:
    by_name = {name for name, table in metadata.tables.items() if "workspace" in table.c}
    by_name -= {"audit"}  # admins must still see who changed what is gone; each record says of which uid it is
    assert by_name == {kind.partition(":")[0] for kind in KEPT} & set(metadata.tables)
