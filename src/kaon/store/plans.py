"""Plans in a store: a row for each cloud, and a row for each part; attempts of jobs are read from the jobs' own rows.

A change of one deployment writes one part, a small row, and the plan's own row, which refers to its parts by digest. A
reader whose snapshot does not have all of them yet finds a part with another digest, and uses the previous plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from kaon import log
from kaon.laws.jobs import planned
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.writes import Create, Delete, UpdateSpec, Write
from kaon.types.job import PlannedAttempt
from kaon.types.model import content_hash
from kaon.types.plan import NamedPlan, Plan, PlanPartSpec, PlanSpec, PlanStatus
from kaon.types.resource import JobResource, PlanPartResource, PlanResource, Unreadable

_log = log.get("store.plans")

PartRow = PlanPartResource | Unreadable


class StoredPlans:
    """The plans in a snapshot; each is assembled once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._cached: dict[str, NamedPlan] = {}
        self._joined: dict[str, tuple[tuple[object, ...], NamedPlan]] = {}
        """Cloud -> versions of the plan's row and of the jobs, and the plan made of them."""

    def read(self, cloud: str) -> NamedPlan | None:
        """The plan of a cloud, or None. As long as nothing changes it is the same object."""
        without = self._without_attempts(cloud)
        jobs = self._snapshot.labelled("job", "attempts", cloud)
        if without is None or not jobs:
            self._joined.pop(cloud, None)
            return without
        versions = (without.name, *((job.uid, job.version) for job in jobs))
        joined = self._joined.get(cloud)
        if joined is None or joined[0] != versions:
            plan = with_attempts(without, [planned for job in jobs if (planned := self._planned(job))])
            if joined is not None and joined[1].name == plan.name:
                plan = joined[1]
            joined = self._joined[cloud] = versions, plan
        return joined[1]

    def base(self, cloud: str) -> NamedPlan | None:
        """The plan of a cloud without attempts of jobs."""
        return self._without_attempts(cloud)

    def _planned(self, job: JobResource) -> PlannedAttempt | None:
        try:
            return planned(job)
        except ValidationError as error:  # a failure of one job must not stop the others
            _log.error("an attempt cannot be planned", job=job.name, workspace=job.workspace, error=repr(error))
            return None

    def _without_attempts(self, cloud: str) -> NamedPlan | None:
        head: PlanResource | None = self._snapshot.find("plan", "", cloud)
        if head is None:
            self._cached.pop(cloud, None)
            return None
        cached = self._cached.get(cloud)
        if cached is None or cached.name != head.spec.hash:
            plan = head.spec.plan or self._assembled(cloud, head.spec)
            if plan is None:
                return cached
            cached = self._cached[cloud] = NamedPlan(name=head.spec.hash, plan=plan)
        return cached

    def _assembled(self, cloud: str, spec: PlanSpec) -> Plan | None:
        """None when the parts differ from those in the plan's row."""
        rows = part_rows(self._snapshot, cloud)
        parts = {}
        for name, digest in spec.parts.items():
            row = rows.get(name)
            if row is None or isinstance(row, Unreadable) or row.spec.digest != digest:
                return None
            parts[name] = row.spec.part
        return Plan.of(cloud, spec.grants, parts)


def with_attempts(base: NamedPlan, attempts: Sequence[PlannedAttempt]) -> NamedPlan:
    """The plan with these attempts, under a name of its own."""
    ordered = tuple(sorted(attempts, key=lambda attempt: attempt.replica.id))
    digest = hashlib.sha256(base.name.encode())
    for attempt in ordered:
        digest.update(content_hash(attempt).encode())
    plan = Plan.of(base.plan.cloud, base.plan.grants, base.plan.parts, ordered)
    return NamedPlan(name=digest.hexdigest(), plan=plan)


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
    """Store `plan` for its cloud, and return its name; unchanged rows are not written.

    `digests`: of its parts; `snapshot` has everything that `store` wrote. All rows but `left_out` are written in one
    transaction. Raises `Conflict` after a write in between: try again.
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
