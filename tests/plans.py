"""Plans in a test's store."""

from __future__ import annotations

from kaon.store.plans import StoredPlans, write_plan
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.types.plan import NamedPlan, Plan


async def keep_plan(store: Store, plan: Plan) -> str:
    """Let `plan` be its cloud's plan; its name."""
    snapshot = Snapshot(store)
    await snapshot.current()
    return await write_plan(store, snapshot, plan)


async def kept_plan(store: Store, cloud: str = "local") -> NamedPlan | None:
    """The plan of a cloud, as agents get it."""
    snapshot = Snapshot(store)
    await snapshot.current()
    return StoredPlans(snapshot).read(cloud)
