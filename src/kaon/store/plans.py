"""Plans in a store: a row for each cloud, and a row for each part.

One change makes one part anew, so one small row is written, and the plan's own row, which names its parts by their
digests. Parts are written first: whoever reads in between finds a part with another digest than the plan's row says,
and goes by the plan that was there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kaon.store.port import Store, Unreadable
from kaon.store.snapshot import Snapshot
from kaon.types.model import content_hash
from kaon.types.plan import NamedPlan, Plan, PlanPartSpec, PlanSpec, PlanStatus
from kaon.types.resource import PlanPartResource, PlanResource

PartRow = PlanPartResource | Unreadable


class StoredPlans:
    """The plans in a snapshot; each is put together once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[str, NamedPlan] = {}

    def read(self, cloud: str) -> NamedPlan | None:
        """The plan of a cloud, None when there is none. While nothing changes it is the same object."""
        head: PlanResource | None = self._snapshot.find("plan", "", cloud)
        if head is None:
            self._known.pop(cloud, None)
            return None
        known = self._known.get(cloud)
        if known is None or known.name != head.spec.hash:
            plan = head.spec.plan or self._put_together(cloud, head.spec)
            if plan is None:
                return known
            known = self._known[cloud] = NamedPlan(name=head.spec.hash, plan=plan)
        return known

    def _put_together(self, cloud: str, spec: PlanSpec) -> Plan | None:
        """None when the parts are not those that the plan's row names."""
        rows = part_rows(self._snapshot, cloud)
        parts = {}
        for name, digest in spec.parts.items():
            row = rows.get(name)
            if row is None or isinstance(row, Unreadable) or row.spec.digest != digest:
                return None
            parts[name] = row.spec.part
        return Plan.of(cloud, spec.grants, parts)


def part_rows(snapshot: Snapshot, cloud: str) -> dict[str, PartRow]:
    """'workspace/deployment' -> the row of its part."""
    rows: list[PartRow] = [*snapshot.list("plan_part", ""), *snapshot.unreadable("plan_part")]
    return {row.name.removeprefix(f"{cloud}/"): row for row in rows if row.name.startswith(f"{cloud}/")}


async def write_plan(
    store: Store,
    snapshot: Snapshot,
    plan: Plan,
    digests: Mapping[str, str] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> str:
    """Let `plan` be its cloud's plan, and return its name; nothing is written of what is stored already.

    `digests` name its parts; `snapshot` has everything that `store` wrote. Raises `Conflict` when somebody else wrote
    in between: try it again.
    """
    digests = {name: content_hash(part) for name, part in plan.parts.items()} if digests is None else digests
    rows = part_rows(snapshot, plan.cloud)
    new = [name for name, digest in digests.items() if _digest(rows.get(name)) != digest]
    specs = [(name, PlanPartSpec(digest=digests[name], part=plan.parts[name])) for name in new]
    writes = (_write_part(store, f"{plan.cloud}/{name}", rows.get(name), spec) for name, spec in specs)
    for failed in await asyncio.gather(*writes, return_exceptions=True):
        if failed is not None:
            raise failed
    head = await _write_head(store, snapshot.find("plan", "", plan.cloud), plan, digests)
    if left_out is not None and head.status.left_out != left_out:
        await store.update_status(head, PlanStatus(left_out=dict(left_out)))
    for name in rows.keys() - digests.keys():
        await store.delete(rows[name])
    return head.spec.hash


async def delete_plan(store: Store, snapshot: Snapshot, cloud: str) -> None:
    """Delete the plan of a cloud that has left."""
    if head := snapshot.find("plan", "", cloud):
        await store.delete(head)
    for row in part_rows(snapshot, cloud).values():
        await store.delete(row)


def _digest(row: PartRow | None) -> str:
    return "" if row is None or isinstance(row, Unreadable) else row.spec.digest


async def _write_part(store: Store, name: str, row: PartRow | None, spec: PlanPartSpec) -> None:
    if isinstance(row, Unreadable):
        await store.delete(row)
    if row is None or isinstance(row, Unreadable):
        await store.create("plan_part", "", name, spec)
    else:
        await store.update_spec(row, spec)


async def _write_head(store: Store, head: PlanResource | None, plan: Plan, digests: Mapping[str, str]) -> PlanResource:
    if head and head.spec.plan is None and head.spec.parts == digests and head.spec.grants == plan.grants:
        return head
    spec = PlanSpec(hash="", grants=plan.grants, parts=dict(digests))
    spec = spec.model_copy(update={"hash": content_hash(spec)})
    if head is None:
        return await store.create("plan", "", plan.cloud, spec)
    return await store.update_spec(head, spec)
