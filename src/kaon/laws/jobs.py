"""The life of a job, as functions from one status to the next.

    Queued -> Preparing -> Running -> Succeeded | Failed | Cancelled | TimedOut
      ^___________________________|  while retries are left

An attempt is over only by positive evidence: its agent reported the end, its cloud was deleted, or its cloud was lost
for long. What is reported of an attempt that was given up is refused, so that nothing is published twice. A job with
`once` never has a second attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kaon.laws.backoff import Backoff, delay_s
from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import (
    POINTS_KEPT,
    RESULT_MAX_BYTES,
    Attempt,
    AttemptEnd,
    JobCall,
    JobSpec,
    JobState,
    JobStatus,
    MetricPoint,
    PlannedAttempt,
    Progress,
)
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import INSTALL_LIMIT_S, Phase, ReplicaSpec, Restart, WorkloadKind, replica_id
from kaon.types.resource import JobResource

RETRY = Backoff(first_s=1.0, cap_s=300.0)
LOST_AFTER_S = 300.0
"""An attempt is given up when its cloud has not reported for so long, unless its job runs once only."""
LOSSES_MAX = 20
"""Attempts that may be lost with their cloud; such losses do not use up retries."""
ATTEMPTS_KEPT = 200
"""Attempts in a job's status; only the newest has its last lines."""
LATE_S = 60.0
"""The agent ends an attempt at its time limit; the control plane does so this much later."""
DRAIN_S = 10.0
"""Time between SIGTERM and SIGKILL when an attempt is ended."""
IDENTITY_ENV = "KAON_KEY"
_POINTS_BYTES = 2**16


def has_identity(spec: JobSpec) -> bool:
    """Whether its attempts get a key of their own."""
    return bool(spec.uses) or spec.submits


def begun(job: JobResource, cloud: str, now: float) -> JobStatus | None:
    """The status with its next attempt, in `cloud`; None: the job must not start now."""
    spec, status = job.spec, job.status
    if status.state is not JobState.QUEUED or status.attempt or status.cancelled or now < status.retry_at:
        return None
    if spec.once and status.attempts:
        return None
    number = status.attempts[-1].number + 1 if status.attempts else 1
    attempt = Attempt(number=number, id=replica_id(job.workspace, job.uid, 1, number), cloud=cloud, created_at=now)
    before = tuple(each.model_copy(update={"last_lines": ()}) for each in status.attempts[1 - ATTEMPTS_KEPT :])
    changed = {
        "state": JobState.PREPARING,
        "reason": "",
        "attempts": (*before, attempt),
        "progress": Progress(),
        "points": (),
    }
    return status.model_copy(update=changed)


def reported(status: JobStatus, id_: str, phase: Phase, reason: str, started_at: float | None) -> JobStatus:
    """The status after the report of an attempt's phase."""
    attempt = status.attempt
    if attempt is None or attempt.id != id_:
        return status
    runs = attempt.state is JobState.RUNNING or phase in _RUNS
    state = JobState.RUNNING if runs else JobState.PREPARING
    began = attempt.started_at if attempt.started_at is not None or not runs else started_at
    why = "" if runs else reason
    changed = attempt.model_copy(update={"state": state, "reason": why, "started_at": began})
    return _with_attempt(status, changed).model_copy(
        update={"state": state, "reason": why, "started_at": status.started_at or began}
    )


_RUNS = (Phase.LOADING, Phase.READY, Phase.DRAINING, Phase.COMPLETED)


def ended(
    spec: JobSpec,
    status: JobStatus,
    id_: str,
    end: AttemptEnd,
    outputs: Mapping[str, DatasetVersionRef],
    now: float,
    jitter: float,
) -> JobStatus | None:
    """The status after the reported end of an attempt; None when that is not the current attempt.

    `jitter` in [0, 1) spreads retries. `outputs`: the versions made of its output, if it has succeeded.
    """
    attempt = status.attempt
    if attempt is None or attempt.id != id_:
        return None
    state, reason = outcome(spec, status, end)
    changed = {
        "state": state,
        "reason": reason,
        "ended_at": now,
        "exit_code": end.exit_code,
        "last_lines": end.last_lines,
    }
    after = _with_attempt(status, attempt.model_copy(update=changed))
    if state is JobState.SUCCEEDED:
        size = 0 if end.result is None else len(json.dumps(end.result, ensure_ascii=False).encode())
        return _finished(after, state, "", now).model_copy(
            update={"result": end.result, "result_bytes": size, "outputs": dict(outputs)}
        )
    retried = state in (JobState.FAILED, JobState.TIMED_OUT) and end.exit_code != EXIT_CONFIG
    return _again_or_finished(spec, after, state, reason, now, jitter, counts=retried)


def outcome(spec: JobSpec, status: JobStatus, end: AttemptEnd) -> tuple[JobState, str]:
    """The state that a reported end gives the attempt, and why. Nothing is published of a job that was cancelled."""
    if status.cancelled:
        return JobState.CANCELLED, "Cancelled."
    if end.timed_out or (status.attempt and status.attempt.stop == JobState.TIMED_OUT):
        return JobState.TIMED_OUT, f"It ran longer than its limit of {spec.timeout_s:g} s."
    if end.reason or end.exit_code not in (0, None):
        return JobState.FAILED, end.reason or f"It ended with exit code {end.exit_code}."
    if missing := sorted(spec.outputs.keys() - end.outputs.keys()):
        return JobState.FAILED, f"It wrote nothing to output '{missing[0]}'."
    if end.result is not None and len(json.dumps(end.result, ensure_ascii=False).encode()) > RESULT_MAX_BYTES:
        return JobState.FAILED, f"Its result has more than {RESULT_MAX_BYTES:,} bytes as JSON."
    return JobState.SUCCEEDED, ""


def given_up(spec: JobSpec, status: JobStatus, reason: str, now: float, jitter: float) -> JobStatus:
    """The status after its attempt was lost together with its cloud."""
    attempt = status.attempt
    if attempt is None:
        return status
    changed = {"state": JobState.FAILED, "reason": reason, "ended_at": now, "given_up": True}
    after = _with_attempt(status, attempt.model_copy(update=changed))
    if status.cancelled:
        return _finished(after, JobState.CANCELLED, "Cancelled.", now)
    if not spec.once and sum(each.given_up for each in after.attempts) <= LOSSES_MAX:
        return after.model_copy(update={"state": JobState.QUEUED, "reason": reason, "retry_at": now})
    return _finished(after, JobState.FAILED, reason, now)


def cancelled(status: JobStatus, now: float) -> JobStatus:
    """The status of a job that was cancelled: it has ended at once without an attempt, else when that has ended."""
    if status.state.ended or status.cancelled:
        return status
    marked = status.model_copy(update={"cancelled": True})
    if status.attempt is not None:
        return marked.model_copy(update={"reason": "It is being cancelled."})
    return _finished(marked, JobState.CANCELLED, "Cancelled.", now)


def overdue(spec: JobSpec, status: JobStatus, now: float) -> JobStatus:
    """The status with its attempt marked to end when it is over its limit; the agent should have ended it before."""
    due = due_at(spec, status)
    attempt = status.attempt
    if attempt is None or due is None or now < due or attempt.stop:
        return status
    return _with_attempt(status, attempt.model_copy(update={"stop": JobState.TIMED_OUT.value}))


def due_at(spec: JobSpec, status: JobStatus) -> float | None:
    """When the current attempt must have ended, epoch seconds; None: it does not run."""
    attempt = status.attempt
    if attempt is None or attempt.started_at is None:
        return None
    return attempt.started_at + spec.timeout_s + LATE_S


def again(status: JobStatus) -> JobStatus:
    """A job that has ended, queued again by a person: its attempts stay, and its retries count anew."""
    fresh = {
        "cancelled": False,
        "state": JobState.QUEUED,
        "reason": "",
        "retry_at": 0.0,
        "ended_at": None,
        "retried_after": status.attempts[-1].number if status.attempts else 0,
    }
    return status.model_copy(update=fresh)


def planned(job: JobResource) -> PlannedAttempt | None:
    """What a plan has of a job's current attempt."""
    spec, attempt = job.spec, job.status.attempt
    if attempt is None:
        return None
    own = {IDENTITY_ENV} if has_identity(spec) else set()
    replica = ReplicaSpec(
        id=attempt.id,
        name=f"{job.name}-{attempt.number}",
        workspace=job.workspace,
        deployment=job.name,
        deployment_uid=job.uid,
        revision=1,
        ordinal=attempt.number,
        artifact=spec.artifact,
        kind=WorkloadKind.JOB,
        restart=Restart.NEVER,
        env=spec.env,
        secrets=tuple(sorted({*spec.secrets, *own})),
        resources=spec.resources,
        drain_s=DRAIN_S,
        start_s=INSTALL_LIMIT_S,
    )
    call = JobCall(
        entry=spec.entry,
        command=spec.command,
        parameters=spec.parameters,
        inputs=spec.inputs,
        outputs=tuple(sorted(spec.outputs)),
        timeout_s=spec.timeout_s,
    )
    stop = JobState.CANCELLED.value if job.status.cancelled else attempt.stop
    return PlannedAttempt(replica=replica, call=call, cancelled=stop)


def thinned(points: Sequence[MetricPoint]) -> tuple[MetricPoint, ...]:
    """At most `POINTS_KEPT` of them and some 64 KB, spread evenly over time, the last included."""
    if not points:
        return ()
    each_bytes = max(len(point.model_dump_json()) for point in points[-10:])
    most = max(2, min(POINTS_KEPT, _POINTS_BYTES // each_bytes))
    if len(points) <= most:
        return tuple(points)
    step = (len(points) - 1) / (most - 1)
    return tuple(points[round(number * step)] for number in range(most))


def _with_attempt(status: JobStatus, attempt: Attempt) -> JobStatus:
    return status.model_copy(update={"attempts": (*status.attempts[:-1], attempt)})


def _again_or_finished(
    spec: JobSpec, status: JobStatus, state: JobState, reason: str, now: float, jitter: float, *, counts: bool
) -> JobStatus:
    failures = _failures(status)
    if not counts or spec.once or failures > spec.retries:
        return _finished(status, state, reason, now)
    retry_at = now + delay_s(RETRY, failures, jitter)
    return status.model_copy(update={"state": JobState.QUEUED, "reason": reason, "retry_at": retry_at})


def _failures(status: JobStatus) -> int:
    """Attempts that failed by themselves since the job was last queued by a person."""
    failed = [each for each in status.attempts if not each.given_up]
    return sum(each.number > status.retried_after for each in failed)


def _finished(status: JobStatus, state: JobState, reason: str, now: float) -> JobStatus:
    changed: dict[str, Any] = {"state": state, "reason": reason, "ended_at": now, "retry_at": 0.0}
    return status.model_copy(update=changed)
