"""Plans in a store: a row for each cloud, and a row for each part.

One change makes one part anew, so one small row is written, and the plan's own row, which names its parts by their
digests. Parts are written first: whoever reads in between finds a part with another digest than the plan's row says,
and goes by the plan that was there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kaon.errors import KaonError
from kaon.store.port import Change, Store, Unreadable
from kaon.types.model import content_hash
from kaon.types.plan import NamedPlan, Plan, PlanPartSpec, PlanSpec, PlanStatus
from kaon.types.resource import PlanPartResource, PlanResource

_ONE_BY_ONE = 8
"""Of more parts that are not known here all are read at once."""


@dataclass(slots=True)
class _Rows:
    """What was read or written of one cloud last."""

    head: PlanResource | None = None
    parts: dict[str, PlanPartResource] = field(default_factory=dict)
    """'workspace/deployment' -> its row."""
    all_parts: bool = False
    """Whether `parts` has every row that there is."""
    named: NamedPlan | None = None


class StoredPlans:
    """Reads plans, and writes what is new of them. Rows that are known here are not read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, _Rows] = {}

    async def read(self, cloud: str) -> NamedPlan | None:
        """The plan of a cloud, None when there is none. While nothing changes it is the same object."""
        head: PlanResource | None = await self._store.find("plan", "", cloud)
        known = self._rows.setdefault(cloud, _Rows())
        if head is None:
            del self._rows[cloud]
            return None
        if known.head is not None and known.head.version == head.version and known.named is not None:
            return known.named
        if head.spec.plan is not None:  # as the release before wrote it
            known.named = NamedPlan(name=head.spec.hash, plan=head.spec.plan)
        else:
            parts = await self._parts(head, known)
            if parts is None:
                return known.named
            known.parts, known.all_parts = parts, False
            known.named = _named(head.name, head.spec, parts)
        known.head = head
        return known.named

    async def latest(self, cloud: str) -> NamedPlan | None:
        """The plan as this object read or wrote it last; read, when it has not."""
        known = self._rows.get(cloud)
        return known.named if known and known.named else await self.read(cloud)

    async def write(
        self, plan: Plan, digests: Mapping[str, str] | None = None, left_out: Mapping[str, str] | None = None
    ) -> NamedPlan:
        """Let `plan` be its cloud's plan; nothing is written of what is stored already. `digests` name its parts.

        Raises `Conflict` when somebody else wrote in between: try it again.
        """
        digests = {name: content_hash(part) for name, part in plan.parts.items()} if digests is None else digests
        known = self._rows.setdefault(plan.cloud, _Rows())
        if not known.all_parts:
            known.head = await self._store.find("plan", "", plan.cloud)
            known.parts, known.all_parts = await self._all(plan.cloud), True
        try:
            await self._write_parts(plan, digests, known)
            known.head = await self._write_head(plan, digests, known.head)
            if left_out is not None and known.head.status.left_out != left_out:
                known.head = await self._store.update_status(known.head, PlanStatus(left_out=dict(left_out)))
            await self._delete(known, known.parts.keys() - digests.keys())
        except KaonError:
            self._rows.pop(plan.cloud, None)
            raise
        if known.named is None or known.named.name != known.head.spec.hash:
            known.named = NamedPlan(name=known.head.spec.hash, plan=plan)
        return known.named

    async def remove(self, cloud: str) -> None:
        """Delete the plan of a cloud that has left."""
        known = self._rows.pop(cloud, None) or _Rows()
        head = await self._store.find("plan", "", cloud)
        if head is not None:
            await self._store.delete(head)
        known.parts = await self._all(cloud)
        await self._delete(known, list(known.parts))

    def forget_others(self, changes: Iterable[Change]) -> set[str]:
        """The clouds whose plan somebody else wrote; what was known of them is read again."""
        clouds = {
            change.name.partition("/")[0]
            for change in changes
            if (change.kind == "plan" and change.version != self._version_of(change.name))
            or (change.kind == "plan_part" and change.version != self._version_of_part(change.name))
        } & self._rows.keys()
        for cloud in clouds:
            del self._rows[cloud]
        return clouds

    def _version_of(self, cloud: str) -> int:
        known = self._rows.get(cloud)
        return known.head.version if known and known.head else -1

    def _version_of_part(self, row: str) -> int:
        cloud, _, name = row.partition("/")
        part = self._rows[cloud].parts.get(name) if cloud in self._rows else None
        return part.version if part else -1

    async def _parts(self, head: PlanResource, known: _Rows) -> dict[str, PlanPartResource] | None:
        """The rows of the parts that the plan's row names; None when they are not all what it says."""
        found = {n: row for n, row in known.parts.items() if row.spec.digest == head.spec.parts.get(n)}
        missing = sorted(head.spec.parts.keys() - found.keys())
        if len(missing) > _ONE_BY_ONE:
            found |= await self._all(head.name)
        else:
            rows = await asyncio.gather(*(self._store.find("plan_part", "", f"{head.name}/{name}") for name in missing))
            found |= {name: row for name, row in zip(missing, rows, strict=True) if row is not None}
        right = all((row := found.get(name)) and row.spec.digest == digest for name, digest in head.spec.parts.items())
        return found if right else None

    async def _all(self, cloud: str) -> dict[str, PlanPartResource]:
        unreadable: list[Unreadable] = []
        rows = await self._store.list_all("plan_part", "", unreadable=unreadable)
        return {row.name.removeprefix(f"{cloud}/"): row for row in rows if row.name.startswith(f"{cloud}/")}

    async def _write_parts(self, plan: Plan, digests: Mapping[str, str], known: _Rows) -> None:
        async def put(name: str, spec: PlanPartSpec) -> None:
            row = known.parts.get(name)
            if row is None:
                known.parts[name] = await self._store.create("plan_part", "", f"{plan.cloud}/{name}", spec)
            else:
                known.parts[name] = await self._store.update_spec(row, spec)

        new = [n for n, digest in digests.items() if n not in known.parts or known.parts[n].spec.digest != digest]
        specs = [(name, PlanPartSpec(digest=digests[name], part=plan.parts[name])) for name in new]
        done = await asyncio.gather(*(put(name, spec) for name, spec in specs), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _write_head(self, plan: Plan, digests: Mapping[str, str], head: PlanResource | None) -> PlanResource:
        if head and head.spec.plan is None and head.spec.parts == digests and head.spec.grants == plan.grants:
            return head
        spec = PlanSpec(hash="", grants=plan.grants, parts=dict(digests))
        spec = spec.model_copy(update={"hash": content_hash(spec)})
        if head is None:
            return await self._store.create("plan", "", plan.cloud, spec)
        return await self._store.update_spec(head, spec)

    async def _delete(self, known: _Rows, names: Iterable[str]) -> None:
        for name in list(names):
            await self._store.delete(known.parts[name])
            del known.parts[name]


def _named(cloud: str, spec: PlanSpec, parts: Mapping[str, PlanPartResource]) -> NamedPlan:
    made = {name: parts[name].spec.part for name in spec.parts}
    return NamedPlan(name=spec.hash, plan=Plan.of(cloud, spec.grants, made))
