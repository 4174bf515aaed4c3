"""Which parts of an agent's report are accepted: those about its own cloud, within bounds.

An agent is trusted with its own cloud only. So each field is checked against that cloud's plan: a replica must be in
it as reported, or in the last accepted report (it drains, or the plan is newer than the report); other fields may name
the plan's deployments. Other entries are dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from kaon.types.flight import ID_LENGTH
from kaon.types.plan import EdgeStatus, Plan, Report
from kaon.types.replica import ReplicaStatus, WorkloadKind
from kaon.types.traffic import Sample

TEXT_MOST = 4096
"""Characters of a reason, or of one line of a log."""
LINES_MOST = 100
REFUSALS_MOST = 100
"""Refused requests of one deployment."""
HELD_MOST = 10_000_000
STARTS_MOST, SIDES_MOST, CLASSES_MOST = 1000, 64, 32

_T = TypeVar("_T")
Dropped = Counter[str]
"""Field -> how many of its entries were dropped."""


def accepted(report: Report, plan: Plan, before: Report | None) -> tuple[Report, Dropped]:
    """The accepted parts of `report`, which is from the cloud of `plan`, and the dropped entries.

    `before` is the accepted part of the last report.
    """
    dropped: Dropped = Counter()
    identities = {replica.id: _identity(replica) for replica in (before.replicas if before else ())}
    jobs = {replica.id for replica in (before.replicas if before else ()) if replica.kind is WorkloadKind.JOB}
    jobs |= {attempt.replica.id for attempt in plan.attempts}
    identities |= {
        attempt.replica.id: (attempt.replica.name, attempt.replica.workspace, attempt.replica.deployment, 1)
        for attempt in plan.attempts
    }
    identities |= {
        spec.id: (spec.name, spec.workspace, spec.deployment, spec.revision) for spec in (*plan.replicas, *plan.standby)
    }
    replicas: dict[str, ReplicaStatus] = {}
    for replica in report.replicas:
        if identities.get(replica.id) == _identity(replica) and replica.id not in replicas:
            kind = WorkloadKind.JOB if replica.id in jobs else WorkloadKind.SERVICE
            same = replica.kind is kind
            replicas[replica.id] = _clipped(replica if same else replica.model_copy(update={"kind": kind}))
        else:
            dropped["replicas"] += 1
    held = _of(plan, report.held, "held", dropped)
    refusals = _of(plan, report.refusals, "refusals", dropped)
    refused = _of(plan, report.edge.refused, "edge.refused", dropped)
    kept = Report(
        cloud=report.cloud,
        plan=report.plan[:TEXT_MOST],
        replicas=tuple(replicas.values()),
        edge=EdgeStatus(
            running=report.edge.running,
            rejected=report.edge.rejected[:TEXT_MOST],
            refused={name: why[:TEXT_MOST] for name, why in refused.items()},
            address=report.edge.address[:TEXT_MOST],
        ),
        place=report.place.model_copy(update={"reason": report.place.reason[:TEXT_MOST]}),
        held={name: min(count, HELD_MOST) for name, count in held.items() if count > 0},
        refusals={name: _ids(ids) for name, ids in refusals.items()},
    )
    return kept, dropped


def may_count(sample: Sample, plan: Plan, report: Report | None) -> bool:
    """Whether the cloud of `plan`, whose last report is `report`, may report that traffic."""
    if sample.cloud not in ("", plan.cloud):
        return False
    if (
        max(len(sample.starts) / STARTS_MOST, len(sample.sides) / SIDES_MOST, len(sample.codes or ()) / CLASSES_MOST)
        > 1
    ):
        return False
    if f"{sample.workspace}/{sample.deployment}" in plan.parts:
        return True
    last_replicas = report.replicas if report else ()
    return any((r.workspace, r.deployment) == (sample.workspace, sample.deployment) for r in last_replicas)


def _identity(replica: ReplicaStatus) -> tuple[str, str, str, int]:
    return replica.name, replica.workspace, replica.deployment, replica.revision


def _clipped(replica: ReplicaStatus) -> ReplicaStatus:
    lines = tuple(line[:TEXT_MOST] for line in replica.last_lines[-LINES_MOST:])
    address = replica.address if len(replica.address or "") <= TEXT_MOST else None
    if (lines, address) == (replica.last_lines, replica.address) and len(replica.reason) <= TEXT_MOST:
        return replica
    return replica.model_copy(update={"reason": replica.reason[:TEXT_MOST], "last_lines": lines, "address": address})


def _of(plan: Plan, found: Mapping[str, _T], field: str, dropped: Dropped) -> dict[str, _T]:
    """The entries of the plan's deployments."""
    kept = {name: value for name, value in found.items() if name in plan.parts}
    if len(kept) < len(found):
        dropped[field] += len(found) - len(kept)
    return kept


def _ids(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(id_[:ID_LENGTH] for id_ in ids if id_)[:REFUSALS_MOST]
