"""The kind plan_part: the part of one deployment in a plan. It is internal and has no verbs."""

from __future__ import annotations

from kaon.types.kind import Kind, Scope
from kaon.types.plan import PlanPartSpec, PlanPartStatus

KIND = Kind(
    name="plan_part",
    plural="plan_parts",
    summary="The part of one deployment in a plan.",
    scope=Scope.PLATFORM,
    spec=PlanPartSpec,
    status=PlanPartStatus,
)
