"""What the agent passes on: the replicas behind each route for the edge, and the statuses of its report. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kaon.agent.decide.inputs import AgentInputs, ProbedHealth, ReplicaHistory
from kaon.agent.decide.liveness import silence_of
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.names import DeploymentKey
from kaon.types.plan import Plan
from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus
from kaon.types.route import ReplicaEndpoint


def endpoints_of(
    plan: Plan, inputs: AgentInputs, histories: Mapping[str, ReplicaHistory]
) -> dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]:
    """The replicas behind each route: ready ones, or busy ones of a revision without a ready one.

    A call to a service whose only replica is busy waits in its socket until the replica is free.
    """
    found: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]] = {(r.workspace, r.deployment): () for r in plan.routes}
    served = {(s.workspace, s.deployment, s.revision) for s in plan.replicas if histories[s.id].phase is Phase.READY}
    for spec in sorted(plan.replicas, key=lambda s: s.id):
        observation, history = inputs.observed.get(spec.id), histories[spec.id]
        alone = (spec.workspace, spec.deployment, spec.revision) not in served
        serves = history.phase is Phase.READY or (alone and _busy(history, inputs))
        if serves and not history.stopping and observation and observation.stage == Stage.STARTING:
            key = (spec.workspace, spec.deployment)
            found[key] = (*found.get(key, ()), *_endpoint(spec, observation))
    return found


def _busy(history: ReplicaHistory, inputs: AgentInputs) -> bool:
    """Whether a replica was ready and does not answer only because of calls within their time limit."""
    assert history.spec is not None
    health = inputs.health.get(history.spec.id, ProbedHealth())
    silence = silence_of(history, health, inputs)
    return silence is not None and silence.busy and health.answer is not None and health.answer.phase == Phase.READY


def _endpoint(spec: ReplicaSpec, observation: ReplicaObservation) -> tuple[ReplicaEndpoint, ...]:
    if not observation.service_address:
        return ()
    return (
        ReplicaEndpoint(
            replica=spec.id,
            revision=spec.revision,
            address=observation.service_address,
            control_address=observation.control_address,
        ),
    )


def status_of(history: ReplicaHistory, observation: ReplicaObservation | None) -> ReplicaStatus:
    """The status of a replica as the report has it."""
    assert history.spec is not None
    return ReplicaStatus(
        id=history.spec.id,
        name=history.spec.name,
        workspace=history.spec.workspace,
        deployment=history.spec.deployment,
        revision=history.spec.revision,
        phase=history.phase,
        reason=history.reason,
        since=history.since,
        started_at=observation.started_at if observation else None,
        restarts=history.restarts,
        exit_code=history.exit_code,
        last_lines=history.last_lines,
        address=observation.service_address if observation else None,
        pid=observation.pid if observation and observation.stage == Stage.STARTING else None,
    )
