"""Replicas, their statuses and routes, as tests need them: of the deployment `shop` unless a test names another."""

from __future__ import annotations

from typing import Any

from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus, replica_id
from kaon.types.route import Backend, Route

ARTIFACT = f"sha256:{'0' * 64}"


def replica_spec(ordinal: int = 0, revision: int = 1, deployment: str = "shop", **fields: Any) -> ReplicaSpec:
    """A replica of a plan. Its id follows from its names; any field can be given."""
    defaults = {
        "id": replica_id("default", deployment, revision, ordinal),
        "name": f"{deployment}-{revision}-{ordinal}",
        "workspace": "default",
        "deployment": deployment,
        "revision": revision,
        "ordinal": ordinal,
        "artifact": ARTIFACT,
    }
    return ReplicaSpec(**{**defaults, **fields})


def replica_status(id_: str = "a", phase: Phase = Phase.READY, **fields: Any) -> ReplicaStatus:
    """The status of a replica that is named as its id, unless its name is given."""
    defaults = {"id": id_, "name": id_, "workspace": "default", "deployment": "shop", "revision": 1, "phase": phase}
    return ReplicaStatus(**{**defaults, **fields})


def status_of(uid: str, revision: int, ordinal: int, phase: Phase = Phase.READY, **fields: Any) -> ReplicaStatus:
    """The status of the replica that the control plane makes for the deployment with this uid."""
    return replica_status(
        replica_id("default", uid, revision, ordinal),
        phase,
        name=f"shop-{revision}-{ordinal}",
        revision=revision,
        **fields,
    )


def route_to(*revisions: int, deployment: str = "shop", **fields: Any) -> Route:
    """A route whose calls all go to the last of these revisions."""
    backends = tuple(Backend(revision=n, weight=100 * (n == revisions[-1])) for n in revisions)
    return Route(workspace="default", deployment=deployment, prefix=f"/{deployment}", backends=backends, **fields)
