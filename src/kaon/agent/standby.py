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

    def ahead(self, plan: Plan, held: Collection[str], now: float) -> Plan:
        """`plan`, with a replica for each deployment ('workspace/deployment') at zero whose callers wait."""
        if not plan.standby:
            return plan
        self._until |= dict.fromkeys(held, now + STAY_S)
        self._until = {key: until for key, until in self._until.items() if until > now}
        started = {
            name: part.model_copy(update={"replicas": (*part.replicas, part.standby)})
            for name in self._until
            if (part := plan.parts.get(name)) and part.standby
        }
        return Plan.of(plan.cloud, plan.grants, {**plan.parts, **started}) if started else plan
