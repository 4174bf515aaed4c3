"""Lists page by page while others write, and watches that are cut: nothing is missed, nothing comes twice."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.figures import examples
from tests.integration.api.world import World, world_of
from tests.statuses import status_with
from tests.waiting import until
from tests.watching import Reader

from kaon.api.stream_limits import MOST
from kaon.errors import NotFound
from kaon.types.deployment import DeploymentSpec, RevisionSpec, Template, template_hash
from kaon.types.event import Event
from kaon.types.key import Role
from kaon.types.kinds import KINDS
from kaon.types.secret import SecretSpec
from kaon.types.workspace import WorkspaceSpec

NAMES = [f"n{number}" for number in range(6)]
DIGEST = f"sha256:{'0' * 64}"
WATCHED = ("deployment", "secret", "revision", "key")

names = st.sampled_from(NAMES)
writes = st.one_of(
    st.tuples(st.just("put"), names, st.integers(0, 3)),
    st.tuples(st.just("report"), names, st.integers(0, 3)),
    st.tuples(st.just("delete"), names, st.just(0)),
)
steps = st.lists(
    st.one_of(writes, writes, writes, st.just(("cut", "", 0)), st.just(("connect", "", 0)), st.just(("read", "", 0))),
    max_size=40,
)
numbers = itertools.count()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=[10_000, 4], ids=["all-kept", "few-kept"])
def world(loop: asyncio.Runner, request: pytest.FixtureRequest) -> Iterator[World]:
    """One platform for all examples, each of which has a workspace of its own; it remembers many changes, or few."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        patch.setattr("kaon.api.recent.KEPT", request.param)
        patch.setattr("kaon.api.watch.GATHER_S", 0.0)
        patch.setattr("kaon.api.keyring.STORE_PATIENCE_S", 30.0)  # a busy machine is no store that is away
        patch.setattr("kaon.api.watch.RECHECK_S", 0.05)
        made = world_of(Path(home))
        yield loop.run(made.__aenter__())
        loop.run(made.__aexit__(None, None, None))


async def workspace(world: World) -> str:
    name = f"w{next(numbers)}"
    await world.store.create("workspace", "", name, WorkspaceSpec())
    return name


async def write(world: World, ws: str, what: str, name: str, number: int) -> None:
    """Make, change or delete a deployment, with a secret that it gets and a revision."""
    store = world.store
    template = Template(artifact=DIGEST, secrets={"A": f"s-{name}"} if number % 2 else {})
    spec = DeploymentSpec(template=template, drain_s=30.0 + number)
    current = await store.find("deployment", ws, name)
    match what:
        case "put" if current is None:
            made = await store.create("deployment", ws, name, spec)
            await _put(world, "secret", ws, f"s-{name}", SecretSpec(ciphertext=str(number), key_id="k"))
            revision = RevisionSpec(
                deployment=name,
                deployment_uid=made.uid,
                number=1,
                template=template,
                template_hash=template_hash(template),
            )
            await _delete(world, "revision", ws, f"{name}-1")
            await store.create("revision", ws, f"{name}-1", revision)
        case "put":
            assert current is not None
            await store.update_spec(current, spec)
        case "report" if current is not None:
            await store.update_status(current, status_with(observed_generation=number, stable=1 if number else None))
        case "delete" if current is not None:
            await store.delete(current)
            if number % 2:
                await _delete(world, "secret", ws, f"s-{name}")


async def _put(world: World, kind: str, ws: str, name: str, spec: Any) -> None:
    found = await world.store.find(kind, ws, name)
    if found is None:
        await world.store.create(kind, ws, name, spec)
    else:
        await world.store.update_spec(found, spec)


async def _delete(world: World, kind: str, ws: str, name: str) -> None:
    try:
        await world.store.delete(await world.store.get(kind, ws, name))
    except NotFound:
        return


async def listed(world: World, key: str, kind: str, ws: str, **query: Any) -> dict[Any, Any]:
    of = KINDS[kind]
    found: dict[Any, Any] = {}
    async with world.client(key) as client:
        after: str | None = None
        while True:
            params = {**query, **({} if after is None else {"after": after})}
            answer = await client.get(of.path.format(ws=ws), params=params)
            assert answer.status_code == 200, answer.text
            for item in answer.json()["items"]:
                view = of.view.model_validate(item)
                assert of.order(view) not in found, "it came twice"
                found[of.order(view)] = view
            after = answer.json()["next"]
            if after is None:
                return found


@pytest.mark.parametrize("scope", [None, ("n0", "n1")], ids=["all", "some-deployments"])
@pytest.mark.parametrize("kind", WATCHED)
def test_whoever_watches_knows_what_a_list_says_however_often_it_is_cut(
    loop: asyncio.Runner, world: World, kind: str, scope: tuple[str, ...] | None
) -> None:
    async def example(what: list[tuple[str, str, int]]) -> None:
        ws = await workspace(world)
        key = await world.key("reader", Role.ADMIN, home=ws, workspace=ws, deployments=scope)
        reader = Reader(world.app, KINDS[kind], KINDS[kind].path.format(ws=ws), key)

        async def agrees() -> bool:
            return reader.current == await listed(world, key, kind, ws)

        await reader.connect()
        for step, name, number in what:
            match step:
                case "cut":
                    await reader.cut()
                case "connect" if not reader.connected:
                    await reader.connect()
                case "read" if reader.connected:
                    await reader.until(agrees)
                case "put" | "report" | "delete":
                    await write(world, ws, step, name, number)
        if not reader.connected:
            await reader.connect()
        await reader.until(agrees)
        await reader.cut()

    @settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(steps)
    def check(what: list[tuple[str, str, int]]) -> None:
        loop.run(example(what))

    check()


def test_a_page_follows_the_other_while_others_write(loop: asyncio.Runner, world: World) -> None:
    async def example(before: list[str], limit: int, between: list[list[tuple[str, str, int]]]) -> None:
        ws = await workspace(world)
        key = await world.key("reader", Role.VIEWER, home=ws, workspace=ws)
        for name in before:
            await write(world, ws, "put", name, 0)
        stays, after, received = set(before), None, []
        turns = iter(between)
        async with world.client(key) as client:
            while True:
                params = {"limit": limit, **({} if after is None else {"after": after})}
                page = (await client.get(f"/workspaces/{ws}/deployments", params=params)).json()
                assert len(page["items"]) <= limit
                received += [item["name"] for item in page["items"]]
                after = page["next"]
                if after is None:
                    break
                for step, name, number in next(turns, []):
                    await write(world, ws, step, name, number)
                    stays -= {name} if step == "delete" else set()
        assert len(received) == len(set(received))
        assert received == sorted(received)
        assert stays <= set(received)

    @settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(names, unique=True), st.integers(1, 3), st.lists(st.lists(writes, max_size=4), max_size=6))
    def check(before: list[str], limit: int, between: list[list[tuple[str, str, int]]]) -> None:
        loop.run(example(before, limit, between))

    check()


def test_whoever_follows_events_gets_each_once_and_in_order(loop: asyncio.Runner, world: World) -> None:
    async def example(groups: list[int], cuts: list[bool]) -> None:
        ws = await workspace(world)
        key = await world.key("reader", Role.VIEWER, home=ws, workspace=ws)
        reader = Reader(world.app, KINDS["event"], f"/workspaces/{ws}/events", key)
        told = itertools.count()
        expected: list[str] = []

        async def came() -> bool:
            return [change.view.name for change in reader.changes if change.view is not None] == expected

        await reader.connect()
        for count, is_cut in itertools.zip_longest(groups, cuts, fillvalue=0):
            happened = [
                Event(at=2e9, workspace=ws, kind="deployment", name=f"e{next(told)}", reason="Happened")
                for _ in range(count)
            ]
            await world.store.record(happened)
            expected += [event.name for event in happened]
            if is_cut and reader.connected:
                await reader.until(came)
                await reader.cut()
            elif not reader.connected:
                await reader.connect()
        if not reader.connected:
            await reader.connect()
        await reader.until(came)
        ids = [int(event.id) for event in reader.events if event.name == "added" and event.id is not None]
        assert ids == sorted(set(ids))
        assert len(ids) == len(expected)
        await reader.cut()

    @settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.booleans(), max_size=8))
    def check(groups: list[int], cuts: list[bool]) -> None:
        loop.run(example(groups, cuts))

    check()


async def test_nothing_is_left_of_a_watch_that_was_cut(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        tasks = asyncio.all_tasks()
        for _ in range(MOST + 4):  # more than a key may have open at once
            reader = Reader(world.app, KINDS["deployment"], "/workspaces/default/deployments", world.keys["root"])
            await reader.connect()
            assert reader.connected
            await reader.cut()
        await until(lambda: asyncio.all_tasks() <= tasks, "no task of a watch is left")
