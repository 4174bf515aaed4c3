"""The replicas that an agent starts by itself: for callers that wait, while the plan has none for them.

The plan names them (`Plan.standby`), and the control plane wants the very same as soon as it hears of the callers. To
wait until it says so would cost the way there and back, some 30 ms, and a caller's whole patience while it is away. So
the agent goes ahead; whatever the next plan says counts.
"""

from __future__ import annotations

from collections.abc import Collection

from kaon.types.plan import Plan

STAY_S = 10.0
"""How long after the last caller waited a replica stays that no plan has taken over."""


class Standby:
    """Remembers for whom a replica was started ahead of the plan."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._last: tuple[Plan, frozenset[str], Plan] | None = None
        """The plan that was given last, who was started ahead of it, and what came of the two."""

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
    return Plan.of(plan.cloud, plan.grants, {**plan.parts, **ahead})
