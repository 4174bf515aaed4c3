"""Statuses of deployments, as tests need them."""

from __future__ import annotations

from typing import Any

from kaon.types.deployment import DeploymentStatus, RolloutStatus, ScalingStatus


def status_with(base: DeploymentStatus | None = None, *, wanted: int | None = None, **fields: Any) -> DeploymentStatus:
    """`base` with these fields of its rollout, or of itself, and with so many replicas wanted."""
    base = base or DeploymentStatus()
    rollout = {name: fields.pop(name) for name in RolloutStatus.model_fields.keys() & fields.keys()}
    assert fields.keys() <= DeploymentStatus.model_fields.keys(), fields
    if wanted is not None:
        fields["scaling"] = ScalingStatus(wanted=wanted)
    return base.model_copy(update={"rollout": base.rollout.model_copy(update=rollout), **fields})
