"""Replicas that the agent starts ahead of the plan, for callers that wait.

The plan has them (`Plan.standby`), and the control plane plans the same ones once the waiting callers are reported.
That takes some 30 ms, and has no end while the control plane is unreachable. So the agent starts them at once; the next
plan decides.
"""

from __future__ import annotations

from collections.abc import Collection

from kaon.types.plan import Plan

STAY_S = 10.0
"""How long a replica that no plan has taken over stays after the last caller waited."""


class Standby:
    """The deployments for which a replica was started ahead of the plan."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._last: tuple[Plan, frozenset[str], Plan] | None = None
        """The last plan given, the deployments started ahead of it, and the result."""

    def ahead(self, plan: Plan, held: Collection[str], now: float) -> Plan:
        """`plan`, with a replica for each deployment ('workspace/deployment') at zero whose callers wait."""
        if not plan.standby:
            return plan
        self._until |= dict.fromkeys(held, now + STAY_S)
        self._until = {key: until for key, until in self._until.items() if until > now}
        names = frozenset(name for name in self._until if name in plan.parts and plan.parts[name].standby)
        if self._last is None or self._last[0] is not plan or self._last[1] != names:
            self._last = plan, names, _started(plan, names) if names else plan
        return self._last[2]


def _started(plan: Plan, names: Collection[str]) -> Plan:
    parts = {name: plan.parts[name] for name in names}
    ahead = {name: part.model_copy(update={"replicas": (*part.replicas, part.standby)}) for name, part in parts.items()}
    return Plan.of(plan.cloud, plan.grants, {**plan.parts, **ahead}, plan.attempts)
