"""The reported state of each deployment, from the clouds' reports and plans, which are indexed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kaon.laws.replica_states import ReplicaState
from kaon.store.port import AnyResource
from kaon.store.snapshot import Snapshot
from kaon.types.cloud import CloudPhase, CloudStatus
from kaon.types.names import DeploymentKey, deployment_key
from kaon.types.replica import ReplicaStatus, WorkloadKind, replica_id
from kaon.types.resource import Deployment


@dataclass(slots=True)
class _Part:
    """The reported state of one deployment in one cloud or plan."""

    replicas: list[ReplicaStatus] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    unrouted: str = ""
    left_out: str = ""


class Reported(NamedTuple):
    """The reported state of a deployment."""

    replicas: list[ReplicaState]
    """Its replicas, by revision and ordinal; not those of an earlier deployment of the same name."""
    refused: tuple[str, ...]
    """The requests that its replicas refuse, since they crash it."""
    unrouted: str
    """Why an edge cannot route it, or empty."""
    left_out: str
    """Why no part of a plan could be made of it, or empty."""


_NOTHING = _Part()


class Reports:
    """The reported states of all deployments."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._indexed: dict[tuple[str, str], tuple[AnyResource, Mapping[DeploymentKey, _Part]]] = {}
        """Cloud or plan -> its resource, and the parts made of it."""
        self._previous: dict[tuple[str, str], Mapping[DeploymentKey, _Part]] = {}
        """The parts at the last call of `changed`."""

    def of(self, deployment: Deployment) -> Reported:
        """The reported state of one deployment."""
        key = (deployment.workspace, deployment.name)
        parts = [
            self._parts(each).get(key, _NOTHING) for kind in ("cloud", "plan") for each in self._snapshot.list(kind)
        ]
        replicas = (replica for part in parts for replica in part.replicas)
        return Reported(
            replicas=sorted(_states(deployment, replicas), key=lambda s: (s.revision, s.ordinal)),
            refused=tuple(sorted({id_ for part in parts for id_ in part.refused})),
            unrouted=next((part.unrouted for part in reversed(parts) if part.unrouted), ""),
            left_out=next((part.left_out for part in reversed(parts) if part.left_out), ""),
        )

    def changed(self, kind: str, name: str) -> set[DeploymentKey]:
        """Deployments whose state in a cloud or plan changed since the last call."""
        resource = self._snapshot.find(kind, "", name)
        after = {} if resource is None else self._parts(resource)
        before = self._previous.get((kind, name), {})
        self._previous[kind, name] = after
        if resource is None:
            self._previous.pop((kind, name))
            self._indexed.pop((kind, name), None)
        keys = before.keys() | after.keys()
        return {key for key in keys if before.get(key, _NOTHING) != after.get(key, _NOTHING)}

    def _parts(self, of: AnyResource) -> Mapping[DeploymentKey, _Part]:
        resource, parts = self._indexed.get((of.kind, of.name), (None, {}))
        if resource is not of:
            parts = _parts_of_cloud(of.status) if of.kind == "cloud" else _parts_of_plan(of.status.left_out)
            self._indexed[of.kind, of.name] = of, parts
        return parts


def _parts_of_cloud(status: CloudStatus) -> Mapping[DeploymentKey, _Part]:
    """The replicas in the last report of a lost cloud are ignored: their state is unknown."""
    parts: defaultdict[DeploymentKey, _Part] = defaultdict(_Part)
    report = status.report
    if report is None:
        return parts
    for replica in report.replicas if status.phase is not CloudPhase.LOST else ():
        if replica.kind is WorkloadKind.JOB:
            continue
        parts[replica.workspace, replica.deployment].replicas.append(replica)
    for place, refused in report.refusals.items():
        parts[deployment_key(place)].refused = refused
    for place, why in report.edge.refused.items():
        parts[deployment_key(place)].unrouted = why
    return parts


def _parts_of_plan(left_out: Mapping[str, str]) -> Mapping[DeploymentKey, _Part]:
    return {deployment_key(place): _Part(left_out=why) for place, why in left_out.items()}


def _states(deployment: Deployment, reported: Iterable[ReplicaStatus]) -> Iterator[ReplicaState]:
    for replica in reported:
        ordinal = replica.name.rpartition("-")[2]
        if not ordinal.isdecimal():
            continue
        if replica.id != replica_id(deployment.workspace, deployment.uid, replica.revision, int(ordinal)):
            continue
        yield ReplicaState(
            revision=replica.revision,
            ordinal=int(ordinal),
            phase=replica.phase,
            reason=replica.reason,
            begun_at=replica.since if replica.started_at is None else replica.started_at,
            restarts=replica.restarts,
            exit_code=replica.exit_code,
            # After a signal the last line is unrelated, and the reason has the place of the crash.
            last_line=replica.last_lines[-1] if replica.last_lines and (replica.exit_code or 0) >= 0 else "",
        )
