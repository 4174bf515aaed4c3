"""What to do with an attempt of a job that the plan has. Pure.

    not there                  start it, unless it was cancelled; a start that was refused for good is its end
    running                    stop it when it was cancelled, when its time is over, or when its outputs are too large
    not begun                  start it again when only something could not be reached, such as the control plane
    ended                      publish its end until that is acknowledged or refused

Its process begins once: what has ended is never started again. Until the plan has it no more, what it has made stays.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from kaon.agent.decide.inputs import (
    Action,
    AgentInputs,
    PublishIt,
    RefusedStart,
    ReplicaHistory,
    StartIt,
    StopIt,
    in_phase,
)
from kaon.agent.decide.wanted import CRASH
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.laws.backoff import delay_s
from kaon.types.job import PlannedAttempt
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import Phase

TIMED_OUT = "TimedOut"
"""`PlannedAttempt.cancelled` of an attempt whose time is over by the control plane's clock."""
_BY_SIGNAL = (None, -signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM)
"""Exit codes of what was stopped."""


def follow_attempt(
    history: ReplicaHistory, planned: PlannedAttempt, observation: ReplicaObservation | None, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """The history and the action of an attempt in the plan."""
    spec = planned.replica
    history = replace(history, spec=spec)
    if spec.id in inputs.refused:
        return _not_begun(history, inputs.refused[spec.id], inputs), None
    if spec.id in inputs.acknowledged or spec.id in inputs.busy:
        return history, None
    if observation is None:
        return _start_or_end(history, planned, inputs)
    if observation.stage is Stage.EXITED and observation.try_again and not planned.cancelled:
        return _start_again(history, planned, observation, inputs)
    if observation.stage is Stage.EXITED:
        return _ended(history, planned, observation, inputs)
    if observation.stage is Stage.WAITING:
        history = in_phase(history, Phase.NO_CAPACITY, observation.reason, inputs)
    elif observation.stage is Stage.INSTALLING:
        history = in_phase(history, Phase.INSTALLING, observation.reason, inputs)
    else:
        history = _running(history, observation, inputs)
    if not (why := history.stopping or _why_stop(history, planned, inputs)):
        return history, None
    grace_s = 0.0 if history.stopping or observation.stage is not Stage.STARTING else spec.drain_s
    history = in_phase(history, Phase.DRAINING, why, inputs)
    return replace(history, stopping=why), StopIt(spec.id, grace_s, why)


def _not_begun(history: ReplicaHistory, refused: RefusedStart, inputs: AgentInputs) -> ReplicaHistory:
    """A start that was refused is repeated after a back-off; an error of the place, or one for good, is the end."""
    failures = history.failures + 1
    final = refused.final or refused.phase is Phase.CRASHED
    phase = Phase.INSTALLING if refused.phase is Phase.STARTING else refused.phase
    history = replace(history, failures=failures, retry_at=inputs.now + delay_s(CRASH, failures))
    return in_phase(replace(history, refused_spec=history.spec if final else None), phase, refused.reason, inputs)


def _start_or_end(
    history: ReplicaHistory, planned: PlannedAttempt, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    spec = planned.replica
    if planned.cancelled:
        why = _cancelled(planned)
        history = in_phase(history, Phase.CRASHED, why, inputs)
        return history, PublishIt(spec.id, planned, None, why, timed_out=planned.cancelled == TIMED_OUT)
    if history.refused_spec is not None:
        return history, PublishIt(spec.id, planned, None, history.reason or "It cannot be started.")
    return history, None if inputs.now < history.retry_at else StartIt(spec)


def _start_again(
    history: ReplicaHistory, planned: PlannedAttempt, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Repeat a preparation that failed since something could not be reached, after a back-off."""
    history = in_phase(history, Phase.INSTALLING, observation.reason, inputs)
    if not history.end_counted:
        failures = history.failures + 1
        history = replace(history, end_counted=True, failures=failures, retry_at=inputs.now + delay_s(CRASH, failures))
    return history, None if inputs.now < history.retry_at else StartIt(planned.replica)


def _running(history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs) -> ReplicaHistory:
    if history.ready_since is None:  # by the clock that is never set; it may have begun before this agent
        age_s = max(0.0, inputs.wall - (observation.started_at or inputs.wall))
        history = replace(history, ready_since=inputs.now - age_s)
    return in_phase(history, Phase.READY, "", inputs)


def _why_stop(history: ReplicaHistory, planned: PlannedAttempt, inputs: AgentInputs) -> str:
    if planned.cancelled:
        return _cancelled(planned)
    call = planned.call
    if history.ready_since is not None and inputs.now - history.ready_since >= call.timeout_s:
        return _too_long(planned)
    if inputs.output_bytes.get(planned.replica.id, 0) > call.output_bytes_max:
        return f"Its outputs have more than {call.output_bytes_max:,} bytes."
    return ""


def _cancelled(planned: PlannedAttempt) -> str:
    return _too_long(planned) if planned.cancelled == TIMED_OUT else "It was cancelled."


def _too_long(planned: PlannedAttempt) -> str:
    return f"It took longer than its time limit of {planned.call.timeout_s:g} s."


def _ended(
    history: ReplicaHistory, planned: PlannedAttempt, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    code = observation.exit_code
    phase = {0: Phase.COMPLETED, EXIT_CONFIG: Phase.CONFIG_ERROR}.get(-1 if code is None else code, Phase.CRASHED)
    timed_out = _is_timed_out(history, planned, observation)
    why = "" if code == 0 else _too_long(planned) if timed_out else history.stopping or observation.reason
    failed = inputs.failures.get((planned.replica.id, PublishIt.__name__))
    shown = f"It has ended, and that cannot be published: {failed}" if failed else why or observation.reason
    history = replace(history, exit_code=code, last_lines=observation.last_lines)
    history = in_phase(history, phase, shown, inputs)
    return history, PublishIt(planned.replica.id, planned, observation, why, timed_out=timed_out)


def _is_timed_out(history: ReplicaHistory, planned: PlannedAttempt, observation: ReplicaObservation) -> bool:
    """Whether it was stopped because of its time limit: by this agent, or by an earlier one as its times show."""
    if observation.exit_code not in _BY_SIGNAL:
        return False
    if history.stopping:
        return history.stopping == _too_long(planned)
    if observation.started_at is None or observation.ended_at is None:
        return False
    return observation.ended_at - observation.started_at >= planned.call.timeout_s
