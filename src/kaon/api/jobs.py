"""`/workspaces/{ws}/jobs`: submit, cancel, retry, delete; progress, results, logs.

No route starts or stops anything: each changes the job's row, and the reconcilers do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints
from starlette.responses import StreamingResponse

from kaon.api import audit, edits, job_rights
from kaon.api.collection import Collection, not_found
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.job_checks import specs_of
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition
from kaon.api.quotas import check_jobs
from kaon.api.replicas import NDJSON, LogResponse, Logs
from kaon.api.resources import STREAM
from kaon.api.router import AuthorizedRouter
from kaon.api.watch import EventStream, Signal
from kaon.errors import Conflict, NotFound
from kaon.laws import jobs as law
from kaon.store.writes import Create, UpdateStatus, Write
from kaon.types.job import JobMetrics, JobNames, JobRequest, JobResult, JobSpec, JobState, JobStatus, Progress
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import JobResource

_TOUCH_EVERY_S = 60.0
"""Far less than an unused artifact is kept."""
router = AuthorizedRouter("/workspaces/{ws}/jobs", tag="jobs")
collection = Collection(
    kind=KINDS["job"],
    sees=lambda job, read: job_rights.sees(read.context, read.caller, job),
    special=frozenset({Verb.DELETE}),
)


class NoResult(Conflict):
    """The job has no result: it has not ended, or has not succeeded."""

    code = "no-result"


@router.post("", right=Right.SUBMIT, status_code=201)
async def submit_job(ws: WorkspaceParam, body: JobRequest, context: WithContext, caller: WithCaller) -> JobNames:
    """Queue a job, or with `map` an array of jobs. Everything is checked before: parameters, datasets, secrets."""
    owner = job_rights.submitter(context, caller, ws)
    name, specs = specs_of(context, caller, owner, ws, body)
    check_jobs(context, ws, len(specs))
    await _keep_artifact(context, ws, next(iter(specs.values())).artifact)
    await context.store.write(_queued(context, caller, ws, name, specs))
    return JobNames(name=name, jobs=tuple(specs))


async def _keep_artifact(context: ApiContext, ws: str, digest: str) -> None:
    """Mark the artifact as used; many submissions of one do not write to its row each."""
    artifact = context.snapshot.find("artifact", ws, digest)
    now = context.clock.now()
    if artifact is None or not 0 <= now - artifact.status.used_at < _TOUCH_EVERY_S:
        await edits.touch_artifact(context.store, ws, digest, now)


def _queued(context: ApiContext, caller: Caller, ws: str, name: str, specs: dict[str, JobSpec]) -> list[Write]:
    changes = [Create("job", ws, job, spec, JobStatus(), at=context.clock.now()) for job, spec in specs.items()]
    if len(changes) == 1:
        return audit.recorded(context, caller, changes[0], "JobSubmitted", "Queued.")
    message = f"Array '{name}' of {len(changes)} jobs queued."
    first = audit.recorded(context, caller, changes[0], "JobSubmitted", message)
    return [*changes[1:], *first]


@router.post("/{name}/cancel", right=Right.SUBMIT)
async def cancel_job(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> JobNames:
    """Cancel a job, or all jobs of an array. A running attempt gets SIGTERM, then SIGKILL; it publishes nothing."""

    now = context.clock.now()

    def cancelled(job: JobResource) -> JobStatus:
        return law.cancelled(job.status, now)

    return await _change(context, caller, ws, name, cancelled, "JobCancelled", "Cancelled.")


@router.post("/{name}/retry", right=Right.SUBMIT)
async def retry_job(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> JobNames:
    """Queue a job that has ended without success again, or those of an array. Its earlier attempts stay listed."""

    def again(job: JobResource) -> JobStatus:
        if not job.status.state.ended or job.status.state is JobState.SUCCEEDED:
            return job.status
        if job.spec.once and job.status.attempts:
            raise Conflict(
                f"Job '{job.name}' starts once only, and was started.", hint="Submit a new one: kaon job run"
            )
        return law.again(job.status)

    return await _change(context, caller, ws, name, again, "JobRetried", "Queued again.")


@router.delete("/{name}", right=Right.SUBMIT, status_code=204)
async def delete_job(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> None:
    """Delete a job that has ended, with its result and metrics. Datasets that it made stay."""
    job_rights.check_change(context, caller)
    if context.snapshot.find("job", ws, name) is not None and not _seen(context, caller, ws, name).status.state.ended:
        raise Conflict(f"Job '{name}' has not ended.", hint=f"Cancel it first: kaon job cancel {name}")
    try:
        await edits.delete(context, caller, Precondition(), ("job", ws, name), "Deleted")
    except NotFound:
        raise not_found(KINDS["job"], ws, name) from None


@router.get("/{name}/result", right=Right.JOBS)
async def get_job_result(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> JobResult:
    """What a job returned, and the versions of datasets that it made. 409 until it has succeeded."""
    status = _seen(context, caller, ws, name).status
    if status.state is not JobState.SUCCEEDED:
        why = f" {status.reason}" if status.reason else ""
        raise NoResult(
            f"Job '{name}' has no result: its state is {status.state}.{why}", hint=f"See: kaon job describe {name}"
        )
    return JobResult(result=status.result, outputs=status.outputs)


@router.get("/{name}/metrics", right=Right.JOBS)
async def get_job_metrics(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> JobMetrics:
    """The metrics of a job's newest attempt over time."""
    return _metrics(context, _seen(context, caller, ws, name))


@router.get("/{name}/progress", right=Right.JOBS, response_class=StreamingResponse, responses={**STREAM})
async def follow_job(ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller) -> StreamingResponse:
    """Server-sent events until the job has ended: `job` with its view, `progress`, and `metrics` with new points."""
    with ExitStack() as exits:
        exits.enter_context(context.streams.open(caller.uid))
        source = _Progress(context, _seen(context, caller, ws, name), exits)
        return EventStream(context, caller, source, source.signals(), exits.pop_all())


@router.get(
    "/{name}/logs",
    right=Right.JOBS,
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/LogLine"}}}}},
)
async def read_job_logs(
    ws: WorkspaceParam,
    name: Named,
    context: WithContext,
    caller: WithCaller,
    tail: Annotated[int, Query(ge=0, le=10_000, description="The last such lines of each attempt.")] = 1000,
    follow: Annotated[bool, Query(description="Then stream new lines, until the attempt has ended.")] = False,
    attempt: Annotated[int | None, Query(ge=1, le=10**9, description="Only this attempt; default: the newest.")] = None,
    grep: Annotated[
        str | None, Query(description="Only lines that contain this text."), StringConstraints(max_length=500)
    ] = None,
) -> StreamingResponse:
    """Log lines of an attempt, as NDJSON; of an ended one as long as its cloud keeps them."""
    job = _seen(context, caller, ws, name)
    found = [each for each in job.status.attempts if attempt is None or each.number == attempt][-1:]
    if not found:
        raise NotFound(f"Job '{name}' has no such attempt yet.", hint=f"See: kaon job describe {name}")
    id_, number = found[0].id, found[0].number
    logs = Logs(context, caller, {id_: f"{name}-{number}"}, lambda line: grep is None or grep in line.text)

    def ended() -> bool:
        now = context.snapshot.find("job", ws, name)
        current = now.status.attempt if now is not None else None
        return current is None or current.id != id_

    arguments = {"tail": tail, "follow": follow and not found[0].state.ended, "grep": grep}
    await logs.ask({found[0].cloud: [id_]}, arguments, ended=ended if follow else None)
    return LogResponse(logs)


class _Progress:
    """The source of a job's events."""

    def __init__(self, context: ApiContext, job: JobResource, exits: ExitStack) -> None:
        self._context = context
        self._place = ("job", job.workspace, job.name)
        self._uid = job.uid
        self._changed = exits.enter_context(context.snapshot.changes_of(self._place))
        self._exits = exits
        self._followed = ""
        self._version = 0
        self._progress = Progress()
        self._step = -1
        self.id = 0
        self.ended = False

    def signals(self) -> Sequence[Signal]:
        """What has changed since the last call."""
        job: JobResource | None = self._context.snapshot.find(*self._place)
        if job is None or job.uid != self._uid:
            self.ended = True
            return ()
        self.ended = job.status.state.ended
        self._follow(job)
        found: list[Signal] = []
        metrics = _metrics(self._context, job)
        points = tuple(point for point in metrics.points if point.step > self._step)
        if points:
            self._step = points[-1].step
            found.append(Signal("metrics", JobMetrics(progress=metrics.progress, points=points)))
        if metrics.progress != self._progress:
            self._progress = metrics.progress
            found.append(Signal("progress", metrics.progress))
        if job.version != self._version:
            self._version = self.id = job.version
            found.append(Signal("job", KINDS["job"].shown(job)))
        return found

    async def next(self, timeout_s: float) -> Sequence[Signal]:
        """See `Source.next`."""
        await self._changed.within(timeout_s)
        return self.signals()

    def _follow(self, job: JobResource) -> None:
        last = job.status.attempts[-1].id if job.status.attempts else ""
        if last and last != self._followed:
            self._followed, self._step = last, -1
            self._exits.enter_context(self._context.job_news.changes_of(last, self._changed))


def _metrics(context: ApiContext, job: JobResource) -> JobMetrics:
    live = context.job_news.of(job.status.attempts[-1].id) if job.status.attempt else None
    return live or JobMetrics(progress=job.status.progress, points=job.status.points)


def _seen(context: ApiContext, caller: Caller, ws: str, name: str) -> JobResource:
    job: JobResource | None = context.snapshot.find("job", ws, name)
    if job is None or not job_rights.sees(context, caller, job):
        raise not_found(KINDS["job"], ws, name)
    return job


async def _change(
    context: ApiContext,
    caller: Caller,
    ws: str,
    name: str,
    changed: Callable[[JobResource], JobStatus],
    reason: str,
    message: str,
) -> JobNames:
    """Change a job, or all jobs of an array, in one transaction. Returns those that were changed."""
    job_rights.check_change(context, caller)

    async def attempt() -> list[str]:
        await context.snapshot.at_least(context.store.written)
        members = context.snapshot.labelled("job", "array", ws, name)
        found = [job for job in members if job_rights.sees(context, caller, job)] or [_seen(context, caller, ws, name)]
        after = {job.name: (job, changed(job)) for job in found}
        changes = [UpdateStatus(job, status) for job, status in after.values() if status != job.status]
        if changes:
            await context.store.write(
                [write for each in changes for write in audit.recorded(context, caller, each, reason, message)]
            )
        return [change.resource.name for change in changes]

    return JobNames(name=name, jobs=tuple(await edits.retry_on_conflict(attempt)))
