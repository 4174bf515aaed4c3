"""Plans in a store: a row for each cloud, and a row for each part.

One change makes one part anew, so one small row is written, and the plan's own row, which names its parts by their
digests. A reader that has not taken in all of them yet finds a part with another digest than the plan's row says, and
goes by the plan that was there before.
"""

from __future__ import annotations

from collections.abc import Mapping

from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.writes import Create, Delete, UpdateSpec, Write
from kaon.types.model import content_hash
from kaon.types.plan import NamedPlan, Plan, PlanPartSpec, PlanSpec, PlanStatus
from kaon.types.resource import PlanPartResource, PlanResource, Unreadable

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

    `digests` name its parts; `snapshot` has everything that `store` wrote. All rows are written in one transaction, but
    for `left_out`. Raises `Conflict` when somebody else wrote in between: try it again.
    """
    digests = {name: content_hash(part) for name, part in plan.parts.items()} if digests is None else digests
    rows = part_rows(snapshot, plan.cloud)
    writes: list[Write] = []
    for name, digest in digests.items():
        if _digest(rows.get(name)) != digest:
            made = PlanPartSpec(digest=digest, part=plan.parts[name])
            writes += _part_written(f"{plan.cloud}/{name}", rows.get(name), made)
    writes += (Delete(rows[name]) for name in rows.keys() - digests.keys())
    head: PlanResource | None = snapshot.find("plan", "", plan.cloud)
    if head is None or head.spec.plan or head.spec.parts != digests or head.spec.grants != plan.grants:
        spec = PlanSpec(hash="", grants=plan.grants, parts=dict(digests))
        spec = spec.model_copy(update={"hash": content_hash(spec)})
        writes.append(UpdateSpec(head, spec) if head else Create("plan", "", plan.cloud, spec))
        head = (await store.write(writes))[-1]
    elif writes:
        await store.write(writes)
    if left_out is not None and head.status.left_out != left_out:
        await store.update_status(head, PlanStatus(left_out=dict(left_out)))
    return head.spec.hash


async def delete_plan(store: Store, snapshot: Snapshot, cloud: str) -> None:
    """Delete the plan of a cloud that has left."""
    head = snapshot.find("plan", "", cloud)
    rows = [*([head] if head else []), *part_rows(snapshot, cloud).values()]
    if rows:
        await store.write([Delete(row) for row in rows])


def _digest(row: PartRow | None) -> str:
    return "" if row is None or isinstance(row, Unreadable) else row.spec.digest


def _part_written(name: str, row: PartRow | None, spec: PlanPartSpec) -> list[Write]:
    if row is not None and not isinstance(row, Unreadable):
        return [UpdateSpec(row, spec)]
    create = Create("plan_part", "", name, spec)
    return [create] if row is None else [Delete(row), create]
