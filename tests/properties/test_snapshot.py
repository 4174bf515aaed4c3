"""After any writes, in whatever groups they arrive, the snapshot equals what the store lists."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.figures import examples
from tests.waiting import turns

from kaon.errors import Unavailable
from kaon.store import open_store
from kaon.store.port import AnyResource, Change, Store
from kaon.store.snapshot import Snapshot, Subscription
from kaon.types.deployment import DeploymentSpec, RevisionSpec, Template, template_hash
from kaon.types.key import KeySpec, Role
from kaon.types.kinds import KINDS
from kaon.types.resource import Unreadable
from kaon.types.workspace import WorkspaceSpec

UIDS = ("", "uid-of-one", "uid-of-another")
TEMPLATE = Template(artifact=f"sha256:{'0' * 64}")

places = st.tuples(
    st.sampled_from(("workspace", "deployment", "revision", "key")),
    st.sampled_from(("", "a", "b")),
    st.sampled_from(("x", "y", "x-1")),
)
writes = st.tuples(st.sampled_from(("write", "write", "delete", "look", "elsewhere")), places, st.integers(0, 5))


def spec_of(kind: str, number: int) -> Any:
    match kind:
        case "workspace":
            return WorkspaceSpec(description=str(number))
        case "deployment":
            return DeploymentSpec(template=TEMPLATE, owner=str(number), owner_uid=UIDS[number % 3])
        case "revision":
            return RevisionSpec(
                deployment=("x", "y")[number % 2],
                deployment_uid=UIDS[number % 3],
                number=number + 1,
                template=TEMPLATE,
                template_hash=template_hash(TEMPLATE),
            )
    owners = {"owner_uid": UIDS[number % 3], "deployment_uid": UIDS[number % 2]}
    return KeySpec(hash=str(number) * 64, hint="k", role=Role.VIEWER, **owners)


async def write(store: Store, kind: str, workspace: str, name: str, number: int, *, delete: bool) -> None:
    found = await store.find(kind, workspace, name)
    if delete and found is not None:
        await store.delete(found)
    elif found is not None:
        await store.update_spec(found, spec_of(kind, number))
    elif not delete:
        await store.create(kind, workspace, name, spec_of(kind, number))


async def compare(snapshot: Snapshot, store: Store) -> None:
    """Everything that can be read of the snapshot equals the store."""
    await snapshot.current()
    for kind in KINDS:
        unreadable: list[Unreadable] = []
        listed = await store.list_all(kind, unreadable=unreadable)
        assert list(snapshot.list(kind)) == listed
        assert list(snapshot.unreadable(kind)) == sorted(unreadable, key=lambda row: (row.workspace, row.name))
        for workspace in ("", "a", "b", "never"):
            assert list(snapshot.list(kind, workspace)) == [r for r in listed if r.workspace == workspace]
        for found in listed:
            assert snapshot.find(kind, found.workspace, found.name) == found
            assert snapshot.with_uid(kind, found.uid) == found
        for uid in UIDS:
            assert list(snapshot.owned(kind, uid)) == [r for r in listed if uid in owners(r)]
    revisions, keys = await store.list_all("revision"), await store.list_all("key")
    for workspace in ("", "a", "b"):
        for name in ("x", "y"):
            under = [r for r in revisions if (r.workspace, r.spec.deployment) == (workspace, name)]
            assert list(snapshot.of_deployment(workspace, name)) == under
    for hashed in {key.spec.hash for key in keys} | {"f" * 64}:
        assert snapshot.key_of_hash(hashed) in ([key for key in keys if key.spec.hash == hashed] or [None])


def owners(resource: AnyResource) -> list[str]:
    fields = {"deployment": ["owner_uid"], "revision": ["deployment_uid"], "key": ["owner_uid", "deployment_uid"]}
    return [getattr(resource.spec, field) for field in fields.get(resource.kind, [])]


class Unreliable:
    """A store whose watch joins groups, repeats them, and breaks in the middle of one."""

    def __init__(self, store: Store, faults: Sequence[str]) -> None:
        self._store = store
        self._faults = list(faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def watch(self, after: int) -> AsyncIterator[Sequence[Change]]:
        async for group in self._store.watch(after):
            match self._faults.pop() if self._faults else "":
                case "drop":
                    raise Unavailable("the watch broke")
                case "merge":
                    await turns(1)
                    yield await self._store.changes(after)
                case "repeat":
                    yield group
                    yield group
                case _:
                    yield group


faults = st.lists(st.sampled_from(("", "drop", "merge", "repeat")), max_size=8)


@pytest.mark.parametrize("where", ["memory", "sqlite"])
@settings(max_examples=examples(100))
@given(steps=st.lists(writes, max_size=20), faults=faults)
def test_the_snapshot_is_what_the_store_lists(where: str, steps: list[Any], faults: list[str]) -> None:
    async def live(url: str) -> None:
        store = open_store(url)
        await store.open()
        elsewhere = store if where == "memory" else open_store(url)
        await elsewhere.open()
        unreliable: Any = Unreliable(store, faults)
        snapshot = Snapshot(unreliable)
        following = asyncio.create_task(snapshot.run())
        try:
            with snapshot.subscribe() as subscription:
                reported: dict[Any, Any] = {}
                remembering = asyncio.create_task(remember(subscription, reported))
                for what, place, number in steps:
                    if what == "look":
                        await compare(snapshot, store)
                    else:
                        to = elsewhere if what == "elsewhere" else store
                        await write(to, *place, number, delete=what == "delete")
                        await turns(1)
                await compare(snapshot, store)
                await turns(3)
                remembering.cancel()
                there = [r for kind in KINDS for r in snapshot.list(kind)]
                heard = {place: resource for place, resource in reported.items() if resource is not None}
                assert heard == {(r.kind, r.workspace, r.name): r for r in there}
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await store.close()
            if elsewhere is not store:
                await elsewhere.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live("memory://" if where == "memory" else f"sqlite:///{folder}/kaon.db"))


async def remember(subscription: Subscription, reported: dict[Any, Any]) -> None:
    """Keep the last version of each resource that a subscriber got."""
    async for changes in subscription:
        reported |= {(c.kind, c.workspace, c.name): c.resource for c in changes}
