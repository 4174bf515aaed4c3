"""Replicas, as last reported by the agents of all clouds, and their logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints, ValidationError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kaon.api.authorizer import deployment_not_found
from kaon.api.broker import AgentQuestion
from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.router import AuthorizedRouter
from kaon.api.views import Items, ReplicaView
from kaon.drivers.port import LogLine
from kaon.errors import NotFound
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import in_use
from kaon.types.key import Right
from kaon.types.kinds import KINDS
from kaon.types.log_level import LogLevel
from kaon.types.replica import Phase, ReplicaStatus, WorkloadKind, replica_id
from kaon.types.resource import Cloud, Deployment

NDJSON = "application/x-ndjson"
_RECHECK_S = 0.5
_PAST_REVISIONS, _PAST_ORDINALS = 10, 32
"""Revisions before and after those in use, and replicas of each, whose logs `past` finds."""
router = AuthorizedRouter("/workspaces/{ws}", tag="replicas")


def _own(read: ReadContext) -> list[ReplicaView]:
    """The replicas of a workspace in all clouds, with those of deleted deployments that still drain."""
    workspace = read.find("workspace", read.workspace)
    found = []
    for cloud, replica in _reported(read.all("cloud"), read.workspace):
        deployment = read.find("deployment", replica.deployment)
        began = replica.since if replica.started_at is None else replica.started_at
        drains = workspace is not None and began >= workspace.created_at
        if drains if deployment is None else _is_of(deployment, replica):
            found.append(ReplicaView(**dict(replica), cloud=cloud))
    return found


collection = Collection(kind=KINDS["replica"], items=_own)


@router.get("/deployments/{deployment}/replicas", right=Right.READ)
async def list_replicas_of_deployment(
    ws: WorkspaceParam, name: DeploymentParam, context: WithContext
) -> Items[ReplicaView]:
    """The replicas of a deployment, in all clouds."""
    found = await _of_deployment(context, ws, name)
    return Items(items=[ReplicaView(**dict(replica), cloud=cloud) for cloud, replica in found])


@router.get(
    "/deployments/{deployment}/logs",
    right=Right.READ,
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/LogLine"}}}}},
)
async def read_logs(
    ws: WorkspaceParam,
    name: DeploymentParam,
    context: WithContext,
    caller: WithCaller,
    tail: Annotated[int, Query(ge=0, le=10_000, description="The last such lines of each replica.")] = 100,
    follow: Annotated[bool, Query(description="Then stream new lines.")] = False,
    since_s: Annotated[float | None, Query(ge=0, le=1e10, allow_inf_nan=False, description="Seconds back.")] = None,
    replica: Annotated[str | None, Query(max_length=80, description="Only this replica, by id or name.")] = None,
    revision: Annotated[int | None, Query(ge=1, le=10**9, description="Only replicas of this revision.")] = None,
    past: Annotated[bool, Query(description="Also replicas that have ended, as long as their logs are kept.")] = False,
    level: Annotated[LogLevel | None, Query(description="Only lines of this level or a higher one.")] = None,
    grep: Annotated[
        str | None, Query(description="Only lines that contain this text."), StringConstraints(max_length=500)
    ] = None,
) -> StreamingResponse:
    """Log lines of the replicas, as NDJSON. Filters apply to all lines that are kept, before `tail`."""
    deployment, clouds = await _deployment_and_clouds(context, ws, name)
    writers = {(c, r.id): r.name for c, r in _reported(clouds, ws) if _is_of(deployment, r)}
    writers = {at: written for at, written in writers.items() if revision in (None, _revision_of(name, written))}
    if past and not follow:
        writers = _past_replicas(deployment, clouds, revision) | writers
    writers = {at: written for at, written in writers.items() if replica in (None, at[1], written)}
    if not writers:
        raise NotFound(
            f"'{name}' has no such replica now.", hint=f"Logs of replicas that have ended: kaon logs {name} --past"
        )
    by_cloud: dict[str, list[str]] = {}
    for cloud, id_ in writers:
        by_cloud.setdefault(cloud, []).append(id_)
    oldest = None if since_s is None else context.clock.now() - since_s
    names = {id_: written for (_, id_), written in writers.items()}
    logs = Logs(context, caller, names, lambda line: line.matches(oldest=oldest, grep=grep, level=level))
    await logs.ask(by_cloud, {"tail": tail, "follow": follow, "since_s": since_s, "grep": grep, "level": level})
    return LogResponse(logs)


def _reported(clouds: Iterable[Cloud], ws: str) -> list[tuple[str, ReplicaStatus]]:
    """(cloud, replica) of a workspace, by name."""
    found = [
        (cloud.name, _now(cloud, replica))
        for cloud in clouds
        if cloud.status.report is not None
        for replica in cloud.status.report.replicas
        if replica.workspace == ws and replica.kind is WorkloadKind.SERVICE
    ]
    return sorted(found, key=lambda pair: (pair[1].deployment, pair[1].revision, pair[1].name))


def _now(cloud: Cloud, replica: ReplicaStatus) -> ReplicaStatus:
    """The replica; of a lost cloud, with the phase Unknown."""
    if cloud.status.phase is not CloudPhase.LOST:
        return replica
    reason = f"Cloud '{cloud.name}' is lost; it reported {replica.phase} last."
    return replica.model_copy(update={"phase": Phase.UNKNOWN, "reason": reason, "since": cloud.status.since})


async def _of_deployment(context: ApiContext, ws: str, name: str) -> list[tuple[str, ReplicaStatus]]:
    """(cloud, replica) of the deployment, not of an earlier one of the same name, whose replicas may still drain."""
    deployment, clouds = await _deployment_and_clouds(context, ws, name)
    return [pair for pair in _reported(clouds, ws) if _is_of(deployment, pair[1])]


async def _deployment_and_clouds(context: ApiContext, ws: str, name: str) -> tuple[Deployment, list[Cloud]]:
    deployment = await context.store.find("deployment", ws, name)
    if deployment is None:
        raise deployment_not_found(ws, name)
    return deployment, await context.store.list_all("cloud", "")


def _past_replicas(deployment: Deployment, clouds: Iterable[Cloud], revision: int | None) -> dict[tuple[str, str], str]:
    """(cloud, id) -> name of replicas that may have written logs: ids follow from revision and ordinal."""
    newest = max(in_use(deployment.status.rollout), default=0) + _PAST_REVISIONS
    numbers = [revision] if revision else range(max(1, newest - 2 * _PAST_REVISIONS), newest + 1)
    return {
        (cloud.name, replica_id(deployment.workspace, deployment.uid, number, ordinal)): (
            f"{deployment.name}-{number}-{ordinal}"
        )
        for number in numbers
        for ordinal in range(_PAST_ORDINALS)
        for cloud in clouds
        if cloud.status.phase is not CloudPhase.LOST
    }


def _revision_of(deployment: str, replica: str) -> int:
    return int(replica.removeprefix(f"{deployment}-").partition("-")[0])


def _is_of(deployment: Deployment, replica: ReplicaStatus) -> bool:
    ordinal = replica.name.rpartition("-")[2]
    if replica.deployment != deployment.name or not ordinal.isdecimal():
        return False
    return replica.id == replica_id(deployment.workspace, deployment.uid, replica.revision, int(ordinal[:9]))


class Logs:
    """The logs of all clouds' agents, merged as they arrive."""

    def __init__(
        self, context: ApiContext, caller: Caller, names: dict[str, str], matches: Callable[[LogLine], bool]
    ) -> None:
        self._context = context
        self._caller = caller
        self._names = names
        self._matches = matches
        self._stack = AsyncExitStack()
        self._ended: Callable[[], bool] | None = None
        self._questions: list[AgentQuestion] = []
        self._merged: asyncio.Queue[LogLine | None] = asyncio.Queue(64)

    async def ask(
        self,
        by_cloud: dict[str, list[str]],
        arguments: Mapping[str, object],
        *,
        ended: Callable[[], bool] | None = None,
    ) -> None:
        """Ask every cloud, and wait until they start to answer. Raises `Unavailable` when none does.

        `ended`: whether the writers have ended: then what is there is the rest.
        """
        self._ended = ended
        self._stack.enter_context(self._context.streams.open(self._caller.uid))
        try:
            for cloud, replicas in by_cloud.items():
                question = self._context.broker.ask(cloud, "logs", {"replicas": replicas, **arguments})
                self._questions.append(self._stack.enter_context(question))
            started = await asyncio.gather(*(q.started() for q in self._questions), return_exceptions=True)
            silent = [error for error in started if isinstance(error, BaseException)]
            if len(silent) == len(started):
                raise silent[0]
            pairs = zip(self._questions, started, strict=True)
            self._questions = [q for q, error in pairs if not isinstance(error, BaseException)]
        except BaseException:
            await self.close()
            raise

    async def lines(self) -> AsyncIterator[bytes]:
        """NDJSON, until all answers end or the reader's key is no longer valid."""
        tasks = [asyncio.ensure_future(self._forward(q)) for q in self._questions]
        left, checked_at = len(tasks), time.monotonic()
        try:
            while left:
                if time.monotonic() - checked_at >= _RECHECK_S:
                    checked_at = time.monotonic()
                    if not await self._context.keyring.is_valid(self._caller):
                        return
                try:
                    async with asyncio.timeout(_RECHECK_S):
                        line = await self._merged.get()
                except TimeoutError:
                    if self._ended is not None and self._ended():
                        return
                    continue
                if line is None:
                    left -= 1
                else:
                    yield line.model_dump_json().encode() + b"\n"
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """Withdraw the questions."""
        await self._stack.aclose()

    async def _forward(self, question: AgentQuestion) -> None:
        while (raw := await question.line()) is not None:
            if (line := self._parsed(raw)) is not None:
                await self._merged.put(line)
        await self._merged.put(None)

    def _parsed(self, raw: bytes) -> LogLine | None:
        """The line with its replica's name; None when it is invalid, of another replica, or filtered out."""
        try:
            line = LogLine.model_validate_json(raw)
        except ValidationError:
            return None
        name = self._names.get(line.replica)
        if name is None or not self._matches(line):
            return None
        return line.model_copy(update={"replica": name})


class LogResponse(StreamingResponse):
    """Always withdraws the questions, even when it ends before its first line."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(logs.lines(), media_type=NDJSON)
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._logs.close()
