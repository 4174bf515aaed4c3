"""What the clouds' reports say about deployments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from kaon.control.loop import Key
from kaon.laws.world import Seen
from kaon.types.cloud import CloudPhase
from kaon.types.replica import ReplicaStatus, replica_id
from kaon.types.resource import Cloud, Deployment, PlanResource


def seen_of(deployment: Deployment, clouds: Iterable[Cloud]) -> list[Seen]:
    """The replicas of `deployment` that are reported; not those of an earlier one of the same name.

    What a cloud that is lost has said last is no report: nobody knows what became of it.
    """
    heard = (cloud.status.report for cloud in clouds if cloud.status.phase is not CloudPhase.LOST)
    reported = (r for report in heard if report for r in report.replicas)
    mine = (r for r in reported if (r.workspace, r.deployment) == (deployment.workspace, deployment.name))
    return sorted(_seen(deployment, mine), key=lambda s: (s.revision, s.ordinal))


def _seen(deployment: Deployment, reported: Iterable[ReplicaStatus]) -> Iterator[Seen]:
    for replica in reported:
        ordinal = replica.name.rpartition("-")[2]
        if not ordinal.isdecimal():
            continue
        if replica.id != replica_id(deployment.workspace, deployment.uid, replica.revision, int(ordinal)):
            continue
        yield Seen(
            revision=replica.revision,
            ordinal=int(ordinal),
            phase=replica.phase,
            reason=replica.reason,
            begun_at=replica.since if replica.started_at is None else replica.started_at,
            restarts=replica.restarts,
            exit_code=replica.exit_code,
            # A signal gives no notice: the last line is of something else, and where it fell is in the reason.
            last_line=replica.last_lines[-1] if replica.last_lines and (replica.exit_code or 0) >= 0 else "",
        )


def by_deployment(cloud: Cloud) -> dict[Key, tuple[CloudPhase, tuple[ReplicaStatus, ...]]]:
    """A cloud's reported replicas by deployment, and how far that report counts."""
    found: defaultdict[Key, list[ReplicaStatus]] = defaultdict(list)
    for replica in cloud.status.report.replicas if cloud.status.report else ():
        found[replica.workspace, replica.deployment].append(replica)
    return {key: (cloud.status.phase, tuple(replicas)) for key, replicas in found.items()}


def waiting(cloud: Cloud) -> set[Key]:
    """The deployments that callers in a cloud wait for, as none of their replicas is ready."""
    held = cloud.status.report.held if cloud.status.report else {}
    return {(workspace, name) for workspace, _, name in (key.partition("/") for key in held)}


def held_of(deployment: Deployment, clouds: Iterable[Cloud]) -> int:
    """How many callers wait for a replica of `deployment`."""
    key = f"{deployment.workspace}/{deployment.name}"
    return sum(cloud.status.report.held.get(key, 0) for cloud in clouds if cloud.status.report)


def refused_of(deployment: Deployment, clouds: Iterable[Cloud]) -> tuple[str, ...]:
    """The requests that replicas of `deployment` refuse, since they crash it."""
    key = f"{deployment.workspace}/{deployment.name}"
    found = {id_ for cloud in clouds if cloud.status.report for id_ in cloud.status.report.refusals.get(key, ())}
    return tuple(sorted(found))


def refusing(cloud: Cloud) -> dict[Key, tuple[str, ...]]:
    """The requests that are refused in a cloud, by deployment."""
    refusals = cloud.status.report.refusals if cloud.status.report else {}
    return {(key.partition("/")[0], key.partition("/")[2]): ids for key, ids in refusals.items()}


def differing(before: Mapping[Key, object], after: Mapping[Key, object]) -> set[Key]:
    """The deployments of which two reports say different things."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def unrouted_of(clouds: Iterable[Cloud]) -> dict[Key, str]:
    """What the clouds' edges cannot route, and why."""
    return {
        (workspace, name): why
        for cloud in clouds
        if cloud.status.report
        for key, why in cloud.status.report.edge.refused.items()
        for workspace, _, name in [key.partition("/")]
    }


def left_out_of(plans: Iterable[PlanResource]) -> dict[Key, str]:
    """Of which deployments no part of a plan could be made, and why."""
    return {
        (workspace, name): why
        for plan in plans
        for key, why in plan.status.left_out.items()
        for workspace, _, name in [key.partition("/")]
    }
