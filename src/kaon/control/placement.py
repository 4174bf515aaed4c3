"""The placement of each deployment; see `kaon.laws.place` for how it is decided. Pure."""

from __future__ import annotations

from collections.abc import Collection

from kaon.laws import place
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import Placement
from kaon.types.resource import Cloud, Deployment


def placement(deployment: Deployment, clouds: Collection[Cloud], now: float) -> Placement:
    """The deployment's placement now, at `now` epoch seconds; `since` changes only with the cloud."""
    before: Placement = deployment.status.placement or Placement()
    states = [place.CloudState(cloud.name, cloud.status.phase, cloud.created_at) for cloud in clouds]
    running_in = {cloud.name for cloud in clouds if _runs_in(deployment, cloud)} if not before.cloud else set()
    decided = place.place(before.cloud, running_in, states)
    moved = deployment.status.placement is None or decided.cloud != before.cloud
    return Placement(cloud=decided.cloud, reason=decided.reason, since=now if moved else before.since)


def lost(placed: Placement, clouds: Collection[Cloud]) -> str:
    """Why the state of the deployment's replicas is unknown; empty: it is known."""
    for cloud in clouds:
        if cloud.name == placed.cloud and cloud.status.phase is CloudPhase.LOST:
            return f"Cloud '{cloud.name}' is lost: {cloud.status.reason}"
    return ""


def _runs_in(deployment: Deployment, cloud: Cloud) -> bool:
    report = cloud.status.report
    key = deployment.workspace, deployment.name
    return report is not None and any((r.workspace, r.deployment) == key for r in report.replicas)
