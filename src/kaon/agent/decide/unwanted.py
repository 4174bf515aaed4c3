"""What to do with a replica that is no longer in the plan: it drains, ends, and its files are deleted. Pure."""

from __future__ import annotations

from dataclasses import replace

from kaon.agent.decide.inputs import Action, AgentInputs, ForgetIt, ProbedHealth, ReplicaHistory, StopIt, in_phase
from kaon.agent.decide.liveness import MISSES, silence_of
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.replica import Phase, ReplicaSpec

EDGE_SETTLE_S = 0.1
"""How long the edge may take to apply new endpoints; it takes 1.4 to 5 ms."""

LAST_GRACE_S = 1.0
"""Time to shut down once the time to drain is used up."""

EDGE_PATIENCE_S = 5.0
"""How long a stop waits for an edge that takes no configuration."""

NOT_WANTED = "It is not wanted any more."


def retire(
    history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """The history and the action of a replica that is not in the plan."""
    if observation.id in inputs.busy:
        return history, None
    if observation.stage == Stage.EXITED:
        return history, ForgetIt(observation.id)
    retired_at = inputs.now if history.retired_at is None else history.retired_at
    left_at = history.left_edge_at
    if left_at is None and inputs.at_edge is not None and observation.id not in inputs.at_edge:
        left_at = inputs.now
    history = replace(history, retired_at=retired_at, left_edge_at=left_at)
    health = inputs.health.get(observation.id, ProbedHealth())
    history = in_phase(history, Phase.DRAINING, _draining(health), inputs)
    drain_s = history.spec.drain_s if history.spec else ReplicaSpec.model_fields["drain_s"].default
    left_s = drain_s - (inputs.now - retired_at)
    silence = silence_of(history, health, inputs) if history.spec else None
    history = replace(history, busy_at=inputs.now if silence and silence.busy else history.busy_at)
    if silence and silence.hung:
        reason = silence.reason
        return replace(history, stopping=NOT_WANTED), StopIt(observation.id, 0.0, reason, stacks=True)
    if observation.stage in (Stage.WAITING, Stage.INSTALLING):
        grace_s = 0.0
    elif _idle(observation.id, health, left_at, inputs) or left_s <= (-EDGE_PATIENCE_S if left_at is None else 0.0):
        grace_s = max(left_s, LAST_GRACE_S)
    else:
        return history, None
    return replace(history, stopping=NOT_WANTED), StopIt(observation.id, grace_s, NOT_WANTED)


def _draining(health: ProbedHealth) -> str:
    count = health.answer.in_flight if health.answer else 0
    return f"{NOT_WANTED} {count} call{'' if count == 1 else 's'} in flight." if count else NOT_WANTED


def _idle(replica: str, health: ProbedHealth, released_at: float | None, inputs: AgentInputs) -> bool:
    """Whether it is idle: the edge has released it, and two probes since then found nothing in flight."""
    if released_at is None or replica in inputs.edge_busy:
        return False
    if health.answer is None:
        return True  # it never answered a probe, so it never got a request
    return health.zeros >= MISSES and health.asked_at >= released_at + EDGE_SETTLE_S
