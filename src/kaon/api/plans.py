"""Plans as agents get them: in the form that the agent reads, under a name that it only returns."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from kaon.store.plans import StoredPlans
from kaon.store.snapshot import Snapshot
from kaon.types.plan import PLAN_IN_PARTS, NamedPlan


@dataclass(frozen=True, slots=True)
class PlanText:
    """A plan as it is sent."""

    name: str
    text: str


class Plans:
    """The stored plans and their texts; each text is made once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._stored = StoredPlans(snapshot)
        self._texts: dict[tuple[str, bool], tuple[NamedPlan, PlanText]] = {}
        self._bases: dict[str, tuple[NamedPlan, str]] = {}
        """Cloud -> the plan without attempts, and its text without the closing brace."""

    def of(self, cloud: str) -> NamedPlan | None:
        """The plan of a cloud; None when there is none."""
        return self._stored.read(cloud)

    def text(self, cloud: str, accept: str) -> PlanText | None:
        """The plan of a cloud in a form that `accept` allows; None when there is none."""
        named = self.of(cloud)
        if named is None:
            return None
        in_parts = PLAN_IN_PARTS in accept
        cached = self._texts.get((cloud, in_parts))
        if cached is None or cached[0] is not named:
            text = self._in_parts(cloud, named) if in_parts else _flat(named)
            cached = self._texts[cloud, in_parts] = (named, text)
        return cached[1]

    def _in_parts(self, cloud: str, named: NamedPlan) -> PlanText:
        """As one text; that of the parts is made again only when they have changed."""
        base = self._stored.base(cloud)
        if base is None:
            return PlanText(named.name, named.plan.model_dump_json())
        cached = self._bases.get(cloud)
        if cached is None or cached[0] is not base:
            cached = self._bases[cloud] = base, base.plan.model_dump_json(exclude={"attempts"}).removesuffix("}")
        attempts = ",".join(attempt.model_dump_json() for attempt in named.plan.attempts)
        return PlanText(named.name, f'{cached[1]},"attempts":[{attempts}]}}')


def _flat(named: NamedPlan) -> PlanText:
    """For agents of the previous release: in one piece, under the hash that they compute themselves."""
    text = named.plan.flat().text()
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return PlanText(hashlib.sha256(canonical.encode()).hexdigest(), text)
