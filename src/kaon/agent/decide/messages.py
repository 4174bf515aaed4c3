"""What a running replica is to be sent: who may call it, which requests it refuses, its knobs. Pure."""

from __future__ import annotations

from dataclasses import replace

from kaon.agent.decide.inputs import (
    Action,
    AdmitIt,
    AgentInputs,
    ProbedHealth,
    RefuseIt,
    ReplicaHistory,
    TuneIt,
)
from kaon.agent.decide.liveness import MISSES
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.key import Access
from kaon.types.knobs import PlannedKnobs
from kaon.types.launch import ReplicaHealth
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import ReplicaSpec

NO_CALLERS = Access().named()
NOTHING_REFUSED = Refusals().named()
_NO_KNOBS = PlannedKnobs().named()


def reachable(
    spec: ReplicaSpec, observation: ReplicaObservation | None, history: ReplicaHistory, inputs: AgentInputs
) -> ReplicaHealth | None:
    """The last answer of a replica, if a message can be sent to it now."""
    runs = observation is not None and observation.stage == Stage.STARTING
    health = inputs.health.get(spec.id, ProbedHealth())
    if not runs or history.stopping or spec.id in inputs.busy or health.misses >= MISSES:
        return None
    return health.answer


def messages(
    plan: Plan, spec: ReplicaSpec, health: ReplicaHealth, history: ReplicaHistory, inputs: AgentInputs
) -> tuple[ReplicaHistory, list[Action]]:
    """The messages for a replica, most urgent first."""
    history, tune = _tune(plan, spec, health, history, inputs)
    found = (_admit(plan, spec, health), _refuse(spec, health, inputs), tune)
    return history, [action for action in found if action]


def _admit(plan: Plan, spec: ReplicaSpec, health: ReplicaHealth) -> Action | None:
    """Sends the access list when another one is in force."""
    access = plan.access.get(f"{spec.workspace}/{spec.deployment}", NO_CALLERS)
    return AdmitIt(spec.id, access) if health.access != access.version else None


def _refuse(spec: ReplicaSpec, health: ReplicaHealth, inputs: AgentInputs) -> Action | None:
    """Sends the requests to refuse when others are in force. A replica without a version does not support refusals."""
    wanted = inputs.refusals.get((spec.workspace, spec.deployment), NOTHING_REFUSED)
    return RefuseIt(spec.id, wanted) if health.refusals not in ("", wanted.version) else None


def _tune(
    plan: Plan, spec: ReplicaSpec, health: ReplicaHealth, history: ReplicaHistory, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Sends knobs when others are in force. A replica that reports no version does not support knobs."""
    planned = plan.knobs.get(f"{spec.workspace}/{spec.deployment}", _NO_KNOBS)
    if history.ended_with and (planned.trial is None or planned.trial.version != history.ended_with):
        history = replace(history, ended_with="")
    knobs = planned.of(spec.id, trying=inputs.lease_s > 0 and not history.ended_with)
    return history, TuneIt(spec.id, knobs) if health.knobs not in ("", knobs.version) else None
