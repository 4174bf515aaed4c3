"""Plans in a store: by part, and whole for whoever reads them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.plans import keep_plan, kept_plan
from tests.replicas import replica_spec

from kaon.store.memory import MemoryStore
from kaon.store.plans import StoredPlans, delete_plan, write_plan
from kaon.store.snapshot import Snapshot
from kaon.types.key import Access, Grant
from kaon.types.plan import NamedPlan, Plan, PlanSpec
from kaon.types.replica import ReplicaSpec


def replica(deployment: str, ordinal: int = 0, **more: Any) -> ReplicaSpec:
    return replica_spec(ordinal, deployment=deployment, **more)


def plan(*deployments: str, replicas: int = 1) -> Plan:
    allowed = Access(grants=(Grant(hash="0" * 64, key="k"),))
    found = [replica(name, ordinal) for name in deployments for ordinal in range(replicas)]
    access = {f"default/{name}": allowed for name in deployments}
    return Plan(cloud="local", replicas=tuple(found), access=access)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def written(store: MemoryStore) -> dict[str, int]:
    rows = [*await store.list_all("plan"), *await store.list_all("plan_part")]
    return {row.name: row.version for row in rows}


async def test_a_plan_is_read_as_it_was_written_under_the_name_that_it_got(store: MemoryStore) -> None:
    wanted = plan("shop", "blog")
    name = await keep_plan(store, wanted)
    assert await kept_plan(store) == NamedPlan(name=name, plan=wanted)
    assert await kept_plan(store, "another") is None


async def test_one_change_writes_one_part_and_the_plans_own_row(store: MemoryStore) -> None:
    first = await keep_plan(store, plan("shop", "blog", "zoo"))
    before = await written(store)
    changed = Plan.of("local", plan("shop").grants, plan("shop", "blog", "zoo").parts | plan("blog", replicas=2).parts)
    second = await keep_plan(store, changed)
    after = await written(store)
    assert {name for name in after if after[name] != before[name]} == {"local", "local/default/blog"}
    assert first != second
    assert await keep_plan(store, changed) == second
    assert await written(store) == after, "what is stored already is not written again"


async def test_the_part_of_a_deployment_that_is_gone_goes(store: MemoryStore) -> None:
    await keep_plan(store, plan("shop", "blog"))
    await keep_plan(store, plan("shop"))
    assert set(await written(store)) == {"local", "local/default/shop"}


async def test_clouds_do_not_touch_each_others_plans(store: MemoryStore) -> None:
    await keep_plan(store, plan("shop"))
    there = plan("blog")
    await keep_plan(store, Plan.of("local2", there.grants, there.parts))
    await keep_plan(store, plan("zoo"))
    assert set(await written(store)) == {"local", "local/default/zoo", "local2", "local2/default/blog"}
    snapshot = Snapshot(store)
    await snapshot.current()
    await delete_plan(store, snapshot, "local")
    assert set(await written(store)) == {"local2", "local2/default/blog"}


async def test_who_reads_between_two_writes_goes_by_the_plan_before(store: MemoryStore) -> None:
    await keep_plan(store, plan("shop"))
    snapshot = Snapshot(store)
    await snapshot.current()
    reader = StoredPlans(snapshot)
    first = reader.read("local")
    assert first is not None
    part = await store.get("plan_part", "", "local/default/shop")
    await store.update_spec(part, part.spec.model_copy(update={"digest": "another"}))
    head = await store.get("plan", "", "local")
    await store.update_spec(head, head.spec.model_copy(update={"hash": "another"}))
    await snapshot.at_least(store.written)
    assert reader.read("local") is first
    await keep_plan(store, plan("shop", replicas=2))
    await snapshot.at_least(store.written)
    second = reader.read("local")
    assert second is not None
    assert len(second.plan.replicas) == 2
    assert reader.read("local") is second, "put together once"


async def test_what_a_writer_that_died_half_way_has_left_is_written_over(store: MemoryStore) -> None:
    await keep_plan(store, plan("shop"))
    await store.delete(await store.get("plan", "", "local"))
    assert await kept_plan(store) is None
    await keep_plan(store, plan("shop", replicas=2))
    found = await kept_plan(store)
    assert found is not None
    assert found.plan == plan("shop", replicas=2)


async def test_a_plan_in_one_row_as_the_release_before_wrote_it_is_read_and_replaced(store: MemoryStore) -> None:
    wanted = plan("shop", "blog")
    old = PlanSpec.model_validate({"hash": "old", "plan": wanted.flat().model_dump(mode="json")})
    await store.create("plan", "", "local", old)
    found = await kept_plan(store)
    assert found is not None
    assert (found.name, found.plan.replicas, found.plan.access) == ("old", wanted.replicas, wanted.access)
    snapshot = Snapshot(store)
    await snapshot.current()
    name = await write_plan(store, snapshot, found.plan)
    assert (await store.get("plan", "", "local")).spec.plan is None
    assert await kept_plan(store) == NamedPlan(name=name, plan=found.plan)
