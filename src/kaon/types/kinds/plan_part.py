"""The kind plan_part: what a plan says of one deployment. It is the platform's own and has no verbs."""

from __future__ import annotations

from kaon.types.kind import Kind, Scope
from kaon.types.plan import PlanPartSpec, PlanPartStatus

KIND = Kind(
    name="plan_part",
    plural="plan_parts",
    summary="What a plan says of one deployment.",
    scope=Scope.PLATFORM,
    spec=PlanPartSpec,
    status=PlanPartStatus,
)
