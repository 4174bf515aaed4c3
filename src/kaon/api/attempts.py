"""`/clouds/{cloud}/attempts`: what an agent sends and gets for the attempts that its cloud's plan has."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Annotated

from fastapi import Path
from pydantic import Field
from starlette.requests import Request

from kaon.api import datasets_of_jobs, edits
from kaon.api.clouds import open_secret
from kaon.api.context import ApiContext, CloudParam, WithContext
from kaon.api.router import AuthorizedRouter
from kaon.errors import Conflict, NotFound
from kaon.laws import jobs as law
from kaon.store.writes import RecordEvents, UpdateStatus, Write
from kaon.types.event import Event, EventLevel
from kaon.types.job import AttemptEnd, AttemptNews, JobState, JobStatus
from kaon.types.key import Right, job_identity_name
from kaon.types.model import Digest, Model
from kaon.types.resource import JobResource

router = AuthorizedRouter("/clouds", tag="clouds")
AttemptParam = Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{12}$", description="The id of its workload.")]
_END_LIMIT_BYTES = 256 * 2**20
"""An end has the manifests of all outputs."""


class Digests(Model):
    """Files of an attempt's outputs."""

    digests: tuple[Digest, ...] = Field(max_length=10_000)


class Missing(Model):
    """Files that have to be uploaded."""

    missing: tuple[Digest, ...] = ()


class Acknowledged(Model):
    """The end of an attempt is written."""


@router.post("/{cloud}/attempts/{id}/news", right=Right.AGENT, status_code=204)
async def post_attempt_news(cloud: CloudParam, attempt: AttemptParam, body: AttemptNews, context: WithContext) -> None:
    """Report progress and metrics of a running attempt."""
    _running(context, cloud, attempt)
    if not context.job_news.take(attempt, body, context.clock.now()):
        return

    async def write() -> None:
        job = await _fresh(context, cloud, attempt)
        if job.status.attempt is not None:
            await context.store.update_status(job, _with_news(context, job.status, attempt))

    await edits.retry_on_conflict(write)


@router.post("/{cloud}/attempts/{id}/end", right=Right.AGENT, body_limit_bytes=_END_LIMIT_BYTES)
async def post_attempt_end(
    cloud: CloudParam, attempt: AttemptParam, body: AttemptEnd, context: WithContext
) -> Acknowledged:
    """Report the end of an attempt, again and again until it is acknowledged. 409: discard what it has made.

    The job's new state and the versions of its outputs are written in one transaction.
    """

    async def write() -> None:
        job = await _fresh(context, cloud, attempt)
        last = job.status.attempts[-1]
        if last.given_up:
            raise _GivenUp(f"Attempt {last.number} of job '{job.name}' was given up: {last.reason}")
        if last.state.ended:
            return
        files = context.blobs.within(job.workspace)
        async with files.deciding if body.outputs else nullcontext():
            await _end(context, job, body)  # nothing of the outputs is collected before the versions name it
        context.job_news.forget(attempt)

    try:
        await edits.retry_on_conflict(write)
    except _GivenUp as error:
        raise Conflict(error.args[0], hint="Discard what it has made.") from None
    return Acknowledged()


class _GivenUp(Exception):
    """No retry helps."""


async def _end(context: ApiContext, job: JobResource, end: AttemptEnd) -> None:
    now = context.clock.now()
    outputs = datasets_of_jobs.Published({})
    if law.outcome(job.spec, job.status, end)[0] is JobState.SUCCEEDED:
        outputs = await datasets_of_jobs.published(context, job, end.outputs)
    id_ = job.status.attempts[-1].id
    with_news = _with_news(context, job.status, id_)
    after = law.ended(job.spec, with_news, id_, end, outputs.refs, now, random.random())  # noqa: S311
    if after is None:
        raise NotFound("This attempt is not the current one of its job.")
    event = RecordEvents([ended_event(job, after, now)])
    writes: list[Write] = [*outputs.writes, UpdateStatus(job, after), event]
    await context.store.write(writes)


def ended_event(job: JobResource, status: JobStatus, now: float) -> Event:
    """The event of the end of an attempt, `status` being the job's status after it."""
    attempt = status.attempts[-1]
    good = attempt.state is JobState.SUCCEEDED
    retried = status.state is JobState.QUEUED
    text = f"Attempt {attempt.number}: {attempt.reason}" if attempt.reason else f"Attempt {attempt.number}."
    again = f" It is repeated in {max(0.0, status.retry_at - now):.0f} s." if retried else ""
    return Event(
        at=now,
        workspace=job.workspace,
        kind="job",
        name=job.name,
        uid=job.uid,
        level=EventLevel.NORMAL if good or status.state is JobState.CANCELLED else EventLevel.WARNING,
        reason="JobRetries" if retried else f"Job{status.state}",
        message=f"{text}{again}",
    )


@router.get("/{cloud}/attempts/{id}/secrets", right=Right.AGENT)
async def get_attempt_secrets(cloud: CloudParam, attempt: AttemptParam, context: WithContext) -> dict[str, str]:
    """Variable -> value for an attempt of the current plan: the job's secrets, and its own key if it has one."""
    job = _running(context, cloud, attempt)
    named = dict(job.spec.secrets)
    if law.has_identity(job.spec):
        named[law.IDENTITY_ENV] = job_identity_name(job.name)
    return {variable: open_secret(context, job.workspace, name) for variable, name in named.items()}


@router.post("/{cloud}/attempts/{id}/missing-files", right=Right.AGENT, body_limit_bytes=2**20)
async def post_missing_files(cloud: CloudParam, attempt: AttemptParam, body: Digests, context: WithContext) -> Missing:
    """The files of an attempt's outputs that have to be uploaded."""
    job = _running(context, cloud, attempt)
    return Missing(missing=tuple(await datasets_of_jobs.missing(context, job, body.digests)))


@router.put("/{cloud}/attempts/{id}/files/{digest}", right=Right.AGENT, status_code=204)
async def put_attempt_file(
    cloud: CloudParam,
    attempt: AttemptParam,
    digest: Annotated[Digest, Path()],
    request: Request,
    context: WithContext,
) -> None:
    """Upload a file of an attempt's outputs."""
    job = _running(context, cloud, attempt)
    declared = request.headers.get("content-length", "0")
    size = int(declared[:19]) if declared.isdecimal() else 0
    await datasets_of_jobs.keep_file(context, job, digest, request.stream(), size)


def _running(context: ApiContext, cloud: str, attempt: str) -> JobResource:
    """The job with that current attempt in that cloud. Raises `NotFound`."""
    job = next(iter(context.snapshot.labelled("job", "attempt", attempt)), None)
    current = job.status.attempt if job is not None else None
    if job is None or current is None or current.cloud != cloud:
        raise NotFound("The cloud's current plan has no such attempt.")
    return job


async def _fresh(context: ApiContext, cloud: str, attempt: str) -> JobResource:
    """The job whose newest attempt that is, running or ended, with all that is written. Raises `NotFound`."""
    await context.snapshot.at_least(context.store.written)
    job = next(iter(context.snapshot.labelled("job", "attempt", attempt)), None)
    if job is None or job.status.attempts[-1].cloud != cloud:
        raise NotFound("The cloud's current plan has no such attempt.")
    return job


def _with_news(context: ApiContext, status: JobStatus, attempt: str) -> JobStatus:
    """The status with the attempt's progress and metrics."""
    news = context.job_news.of(attempt)
    if news is None:
        return status
    return status.model_copy(update={"progress": news.progress, "points": law.thinned(news.points)})
