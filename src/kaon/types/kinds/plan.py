"""The kind plan: all that a cloud's agent is to do. It is the platform's own and has no verbs."""

from __future__ import annotations

from kaon.types.kind import Kind, Scope
from kaon.types.plan import PlanSpec, PlanStatus

KIND = Kind(
    name="plan",
    plural="plans",
    summary="What a cloud's agent is to do.",
    scope=Scope.PLATFORM,
    spec=PlanSpec,
    status=PlanStatus,
)
