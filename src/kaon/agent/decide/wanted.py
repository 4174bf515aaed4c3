"""What to do with a replica of the plan. Pure."""

from __future__ import annotations

from dataclasses import replace

from kaon.agent.decide.inputs import (
    Action,
    AgentInputs,
    ProbedHealth,
    RefusedStart,
    ReplicaHistory,
    StartIt,
    StopIt,
    in_phase,
)
from kaon.agent.decide.liveness import silence_of
from kaon.agent.decide.unwanted import NOT_WANTED
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import Phase, ReplicaSpec, Restart

CRASH = Backoff(first_s=1.0, cap_s=60.0)
CONFIG = Backoff(first_s=30.0, cap_s=300.0)
STEADY_S = 10.0
"""A replica that was ready for so long starts again without the back-off of earlier failures."""

_PHASES = {phase.value: phase for phase in Phase}


def want(
    history: ReplicaHistory, spec: ReplicaSpec, observation: ReplicaObservation | None, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """The history and the action of a replica in the plan."""
    history = replace(history, retired_at=None, left_edge_at=None)
    if spec.id in inputs.refused:
        return _not_begun(history, spec, inputs.refused[spec.id], inputs), None
    if observation is None or observation.stage == Stage.EXITED:
        return _start_when_due(history, spec, observation, inputs)
    if observation.stage == Stage.WAITING:
        return in_phase(history, Phase.NO_CAPACITY, observation.reason, inputs), None
    if observation.stage == Stage.INSTALLING:
        return in_phase(history, Phase.INSTALLING, observation.reason, inputs), None
    return _watch(history, observation, inputs)


def _not_begun(
    history: ReplicaHistory, spec: ReplicaSpec, refused: RefusedStart, inputs: AgentInputs
) -> ReplicaHistory:
    """A refused start is repeated after a back-off, unless that is useless. It does not count as a restart."""
    begun = refused.phase == Phase.CRASHED  # an error of the driver counts as a crash
    history = replace(history, end_counted=True, begun=begun, refused_spec=spec if refused.final else None)
    return _failed(history, refused.phase, refused.reason, inputs)


def _start_when_due(
    history: ReplicaHistory, spec: ReplicaSpec, observation: ReplicaObservation | None, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    if spec.id in inputs.busy:
        return history, None
    if observation and not history.end_counted:
        history = _count_end(history, observation, inputs)
    over = observation is not None and spec.restart is Restart.NEVER and history.stopping != NOT_WANTED
    if over or history.refused_spec == spec or inputs.now < history.retry_at:
        return history, None
    return history, StartIt(spec)


def _count_end(history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs) -> ReplicaHistory:
    """Record how it ended: as a failure, unless this agent stopped it because it was not wanted for a while."""
    if history.stopping == NOT_WANTED:
        return replace(history, end_counted=True, retry_at=0.0)
    phase = Phase.CONFIG_ERROR if observation.exit_code == EXIT_CONFIG else Phase.CRASHED
    steady = history.ready_since is not None and inputs.now - history.ready_since >= STEADY_S
    history = replace(
        history,
        end_counted=True,
        failures=0 if steady else history.failures,
        exit_code=observation.exit_code,
        last_lines=observation.last_lines,
        tuned="",
        ended_with=history.tuned or history.ended_with,
    )
    if observation.exit_code == 0 and not history.stopping and history.spec and history.spec.restart is Restart.NEVER:
        return in_phase(replace(history, failures=0), Phase.COMPLETED, observation.reason, inputs)
    return _failed(history, phase, history.stopping or observation.reason, inputs)


def _failed(history: ReplicaHistory, phase: Phase, reason: str, inputs: AgentInputs) -> ReplicaHistory:
    backoff = CONFIG if phase == Phase.CONFIG_ERROR else CRASH
    failures = history.failures + 1
    history = replace(history, failures=failures, retry_at=inputs.now + delay_s(backoff, failures))
    return in_phase(history, phase, reason, inputs)


def _watch(
    history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Its process runs: take over its phase, and stop it when it hangs."""
    if history.stopping:  # repeated, since the stop before had no effect
        return history, None if observation.id in inputs.busy else StopIt(observation.id, 0.0, history.stopping)
    health = inputs.health.get(observation.id, ProbedHealth())
    silence = silence_of(history, health, inputs)
    if silence and silence.hung and observation.id not in inputs.busy:
        return replace(history, stopping=silence.reason), StopIt(observation.id, 0.0, silence.reason, stacks=True)
    if health.answer is None:
        return in_phase(history, Phase.STARTING, observation.reason, inputs), None
    if silence:
        history = replace(history, busy_at=inputs.now if silence.busy else history.busy_at)
        return in_phase(history, Phase.STARTING, silence.reason, inputs), None
    phase = _PHASES.get(health.answer.phase, Phase.STARTING)
    if phase == Phase.READY and history.ready_since is None:
        history = replace(history, ready_since=inputs.now)
    return in_phase(history, phase, health.answer.reason, inputs), None
