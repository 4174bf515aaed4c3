"""Whatever people do, and whenever the collector looks, it deletes nothing that is used or about to be.

Artifacts come and go, deployments are made of them, go back and try shadows, all through the API, also in the middle of
a collection: between any two of its reads, and between its decision and each deletion.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.figures import examples
from tests.integration.api.world import World, artifact_bytes, digest_of, world_of

from kaon.control.deployments import DeploymentController
from kaon.control.planning import PlanningController
from kaon.laws.retention import BLOBS_S, Keep
from kaon.store.garbage import Collector
from kaon.store.port import Store
from kaon.types.cloud import CloudSpec
from kaon.types.deployment import templates_of

KEEP = Keep(artifacts_s=1000.0, events_s=1000.0, gone_s=1000.0, keys_s=1000.0)
BUILDS = [artifact_bytes(f"x = {n}\n".encode()) for n in range(4)]
DIGESTS = [digest_of(build) for build in BUILDS]
NAMES = ("a", "b")

build = st.integers(0, len(BUILDS) - 1)
name = st.sampled_from(NAMES)
act = st.one_of(
    st.tuples(st.just("bring"), build),
    st.tuples(st.just("deploy"), name, build),
    st.tuples(st.just("deploy"), name, build),
    st.tuples(st.just("shadow"), name, build),
    st.tuples(st.just("undo"), name),
    st.tuples(st.just("delete"), name),
    st.tuples(st.just("drop"), build),
    st.tuples(st.just("leave bytes"), build),
    st.tuples(st.just("reconcile")),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 500.0, 1000.0])),
)
collect = st.tuples(st.just("collect"), st.lists(st.tuples(st.integers(0, 12), act), max_size=3))


class Disturbed:
    """A store in the use of which something happens before the n-th call."""

    def __init__(self, store: Store, before: Callable[[int], Awaitable[None]]) -> None:
        self._store = store
        self._before = before
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self._calls += 1
            await self._before(self._calls)
            return await method(*arguments, **options)

        return call


class Model:
    """The world, and when each artifact was brought or deployed last."""

    def __init__(self, world: World, client: Any) -> None:
        self.world = world
        self.client = client
        self.reconciler = DeploymentController(world.store, world.vault, world.clock)
        self.planning = PlanningController(world.store, world.clock)
        self.used_at: dict[str, float] = {}

    async def ask(self, method: str, path: str, **body: Any) -> int:
        answer = await self.client.request(method, f"/workspaces/default{path}", **body)
        assert answer.status_code < 500 or answer.headers.get("retry-after"), answer.text
        return answer.status_code

    async def bring(self, number: int) -> None:
        if await self.ask("POST", "/artifacts", content=BUILDS[number]) in (200, 201):
            self.used_at[DIGESTS[number]] = self.world.clock.now()

    async def deploy(self, name: str, number: int) -> None:
        body = {"template": {"artifact": DIGESTS[number]}, "scaling": {"min": 1, "max": 1}}
        status = await self.ask("PUT", f"/deployments/{name}", json=body)
        if self.world.clock.now() - self.used_at.get(DIGESTS[number], 0) < KEEP.artifacts_s:
            assert status in (200, 201), "what was brought just now can be deployed"

    async def shadow(self, name: str, number: int) -> None:
        await self.ask("PUT", f"/deployments/{name}/shadow", json={"template": {"artifact": DIGESTS[number]}})

    async def undo(self, name: str) -> None:
        await self.ask("POST", f"/deployments/{name}/undo")

    async def delete(self, name: str) -> None:
        await self.ask("DELETE", f"/deployments/{name}")

    async def drop(self, number: int) -> None:
        if await self.ask("DELETE", f"/artifacts/{DIGESTS[number]}") == 204:
            self.used_at.pop(DIGESTS[number], None)

    async def leave_bytes(self, number: int) -> None:
        """An upload that was cut off between its bytes and its row."""

        async def chunks() -> Any:
            yield BUILDS[number]

        await self.world.blobs.put(chunks(), 2**20)

    async def reconcile(self) -> None:
        for key in await self.reconciler.keys():
            await self.reconciler.reconcile(key)
        await self.planning.reconcile(("", "local"))

    async def wait(self, seconds: float) -> None:
        self.world.clock.jump(seconds)
        for path in (self.world.settings.home / "blobs").glob("*"):
            at = path.stat().st_mtime - seconds
            os.utime(path, (at, at))

    async def collect(self, meanwhile: list[tuple[int, tuple[Any, ...]]]) -> None:
        waiting: list[asyncio.Task[None]] = []

        async def disturb(call: int) -> None:
            for at, (what, *arguments) in meanwhile:
                if at == call:
                    task = asyncio.create_task(self.do(what, *arguments))
                    waiting.append(task)
                    if not (self.world.blobs.deciding.locked() and what in ("bring", "drop")):  # these wait for us
                        await task

        store: Any = Disturbed(self.world.store, disturb)
        await Collector(store, self.world.blobs, self.world.clock, KEEP).collect()
        await asyncio.gather(*waiting)

    async def do(self, what: str, *arguments: Any) -> None:
        await getattr(self, what.replace(" ", "_"))(*arguments)

    async def check(self) -> None:
        """All that is referred to is there, whole; and what was brought just now."""
        store, now = self.world.store, self.world.clock.now()
        used = {t.artifact for d in await store.list_all("deployment") for t in templates_of(d.spec)}
        used |= {r.spec.template.artifact for r in await store.list_all("revision")}
        used |= {r.artifact for p in await store.list_all("plan_part") for r in p.spec.part.replicas}
        rows = {a.name for a in await store.list_all("artifact")}
        fresh = {digest for digest, at in self.used_at.items() if now - at < KEEP.artifacts_s}
        assert (used | fresh) - rows == set()
        for digest in rows:
            assert await self.world.blobs.has(digest)


async def lived(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        async with world_of(Path(folder)) as world, world.client(world.keys["root"]) as client:
            world.clock.jump(time.time() - world.clock.now())  # files have the machine's time
            await world.store.create("cloud", "", "local", CloudSpec())
            model = Model(world, client)
            for step in steps:
                await model.do(*step)
                await model.check()
            await rest(model)


async def rest(model: Model) -> None:
    """Once nothing is deployed and time has passed, nothing is left: it is collected, and not only spared."""
    for name in NAMES:
        await model.delete(name)
    await model.reconcile()
    await model.wait(max(KEEP.artifacts_s, BLOBS_S) + 1)
    await model.collect([])
    assert await model.world.store.list_all("artifact") == []
    assert await model.world.blobs.list_all() == []


@pytest.mark.timeout(6 * examples(100))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(act, act, collect), min_size=3, max_size=15))
def test_nothing_is_collected_that_is_used_or_about_to_be(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(lived(steps))


MEANWHILE: dict[str, list[tuple[Any, ...]]] = {
    "it is deployed": [("deploy", "a", 0)],
    "it is deployed and planned": [("deploy", "a", 0), ("reconcile",)],
    "it is brought and deployed": [("bring", 0), ("deploy", "a", 0)],
    "it becomes a shadow": [("shadow", "b", 0)],
    "it is deployed and replaced": [("deploy", "a", 0), ("reconcile",), ("deploy", "a", 1), ("reconcile",)],
}


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("what", MEANWHILE)
async def test_whatever_happens_between_any_two_steps_of_a_collection_nothing_used_goes(
    tmp_path: Path, what: str, at: int
) -> None:
    async with world_of(tmp_path) as world, world.client(world.keys["root"]) as client:
        world.clock.jump(time.time() - world.clock.now())
        await world.store.create("cloud", "", "local", CloudSpec())
        model = Model(world, client)
        for number in (0, 1):
            await model.bring(number)
        await model.deploy("b", 1)
        await model.reconcile()
        await model.wait(KEEP.artifacts_s + 1)
        await model.collect([(at, step) for step in MEANWHILE[what]])
        await model.check()
