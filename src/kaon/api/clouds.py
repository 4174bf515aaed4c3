"""`/clouds`: the routes of agents, each for its own cloud; and the list of clouds.

An agent gets only what the current plan of its cloud names: those artifacts, those replicas' secrets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Path, Query, Response
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from kaon.agent.ports import AgentCall
from kaon.api import edits
from kaon.api.checks import IDENTITY_VARIABLE
from kaon.api.collection import Collection
from kaon.api.context import ApiContext, CloudParam, WithCaller, WithContext
from kaon.api.keyring import Caller
from kaon.api.problems import Unprocessable
from kaon.api.router import AuthorizedRouter
from kaon.api.views import CloudView
from kaon.errors import NotFound, Unauthenticated
from kaon.store.snapshot import attempts_place
from kaon.types.cloud import CloudPhase, CloudSpec, CloudStatus
from kaon.types.key import Right, identity_name
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.model import Digest
from kaon.types.place import PlaceHealth, PlaceState
from kaon.types.plan import Plan, Report
from kaon.types.replica import Phase, ReplicaSpec, WorkloadKind
from kaon.types.resource import Cloud
from kaon.types.traffic import Traffic, TrafficTaken

LONGEST_WAIT_S = 30.0
SEEN_EVERY_S = 5.0
"""How often an unchanged report is written, and so how exact `seen_at` is."""
AWAY_AFTER_S = 15.0
_REPORT_LIMIT_BYTES = 8 * 2**20
_TRAFFIC_LIMIT_BYTES = 8 * 2**20
CHECK_S = 0.5
"""How often a waiting request checks that its key is valid and its agent connected."""

router = AuthorizedRouter("/clouds", tag="clouds")
collection = Collection(
    kind=KINDS["cloud"],
    view=lambda cloud, read: view_of(cloud, read.caller, read.now),
    special=frozenset({Verb.DELETE}),
)
WaitParam = Annotated[float, Query(ge=0, allow_inf_nan=False, description="Seconds to wait for a change; 30 at most.")]
OfReplica = Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{12}$")]


@router.get(
    "/{cloud}/plan", right=Right.AGENT, response_model=Plan, responses={304: {"description": "Still the same."}}
)
async def get_plan(
    cloud: CloudParam,
    request: Request,
    context: WithContext,
    caller: WithCaller,
    after: Annotated[str, Query(max_length=64, description="As `If-None-Match`; for older agents.")] = "",
    wait_s: WaitParam = 20.0,
) -> Response:
    """The plan, as soon as its ETag differs from `If-None-Match`; 304 when it does not within the wait."""
    cached = request.headers.get("if-none-match", after).removeprefix("W/").strip('"')
    accept = request.headers.get("accept", "")
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + min(wait_s, LONGEST_WAIT_S)
    places = ("plan", "", cloud), attempts_place(cloud)
    with context.streams.open(caller.uid), context.snapshot.changes_of(*places) as changed:
        while True:
            await _check_key(context, caller)
            plan = context.plans.text(cloud, accept)
            if plan is not None and plan.name != cached:
                headers = {"etag": f'"{plan.name}"', "vary": "accept"}
                return Response(plan.text, media_type="application/json", headers=headers)
            left_s = ends_at - loop.time()
            if not await changed.within(min(CHECK_S, left_s)) and left_s <= CHECK_S:
                return Response(status_code=304)


async def _check_key(context: ApiContext, caller: Caller) -> None:
    """Raises `Unauthenticated` when the key has ended since the call began."""
    if not await context.keyring.is_valid(caller):
        raise Unauthenticated("This key has expired or was revoked.", hint="Use another key.")


@router.post("/{cloud}/report", right=Right.AGENT, status_code=204, body_limit_bytes=_REPORT_LIMIT_BYTES)
async def post_report(cloud: CloudParam, body: Report, context: WithContext) -> None:
    """Report the state of the agent's own cloud; the rest is dropped. Written on a change, else every 5 s."""
    if body.cloud != cloud:
        raise Unprocessable("The report names another cloud than the path.")
    report = context.intake.report(body)

    async def attempt() -> None:
        now = context.clock.now()
        found = await context.store.find("cloud", "", cloud)
        if found is None:
            await context.store.create("cloud", "", cloud, CloudSpec(), CloudStatus(report=report, seen_at=now))
        elif found.status.report != report or not 0 <= now - found.status.seen_at < SEEN_EVERY_S:
            await context.store.update_status(found, found.status.model_copy(update={"report": report, "seen_at": now}))

    await edits.retry_on_conflict(attempt)


@router.post("/{cloud}/traffic", right=Right.AGENT, body_limit_bytes=_TRAFFIC_LIMIT_BYTES)
async def post_traffic(cloud: CloudParam, body: Traffic, context: WithContext) -> TrafficTaken:
    """Report the traffic of the agent's own cloud; the answer has the last second that is stored."""
    if body.cloud != cloud:
        raise Unprocessable("The traffic names another cloud than the path.")
    context.meters.update_if_due()
    return TrafficTaken(until_s=context.traffic.add(body, context.clock.now(), context.intake.counted(cloud)))


@router.get(
    "/{cloud}/artifacts/{digest}",
    right=Right.AGENT,
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The bytes from the range's start on."},
    },
)
async def get_artifact_bytes(
    cloud: CloudParam, digest: Annotated[Digest, Path()], request: Request, context: WithContext
) -> StreamingResponse:
    """An artifact's bytes, for a replica or attempt of the current plan; with `Range: bytes=N-` those from N on."""
    named = [r for r in _workloads(context, cloud) if r.artifact == digest]
    artifact = context.snapshot.find("artifact", named[0].workspace, digest) if named else None
    if artifact is None or not await context.blobs.has(digest):
        raise NotFound(f"There is no artifact '{digest}' for this cloud.")
    size = artifact.spec.size_bytes
    offset = _range_start(request.headers.get("range", ""), size)
    headers = {"content-length": str(size - offset)}
    if offset:
        headers["content-range"] = f"bytes {offset}-{size - 1}/{size}"
    return StreamingResponse(
        _from_offset(context.blobs.read(digest), offset),
        status_code=206 if offset else 200,
        media_type="application/gzip",
        headers=headers,
    )


def _range_start(header: str, size: int) -> int:
    """Where a range starts that has no end; other ranges are answered with all bytes, as RFC 9110 allows."""
    match = re.fullmatch(r"bytes=(\d{1,16})-", header)
    start = int(match.group(1)) if match else 0
    return start if start <= size else 0


async def _from_offset(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """The bytes from `offset` on; those before are read, so that the digest is checked."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:]
        offset = max(0, offset - len(chunk))


@router.get("/{cloud}/replicas/{id}/secrets", right=Right.AGENT)
async def get_replica_secrets(cloud: CloudParam, replica: OfReplica, context: WithContext) -> dict[str, str]:
    """Variable -> value for a replica of the current plan: the secrets of its revision, and the service's own key."""
    spec = next((r for r in _replicas(context, cloud) if r.id == replica), None)
    if spec is None:
        raise NotFound("The cloud's current plan has no such replica.")
    revision = context.snapshot.get("revision", spec.workspace, f"{spec.deployment}-{spec.revision}")
    if revision.spec.deployment != spec.deployment:
        raise NotFound("The replica's revision is gone.")
    artifact = context.snapshot.get("artifact", spec.workspace, revision.spec.template.artifact)
    declares = artifact.spec.manifest.service.uses is not None
    own = identity_name(spec.deployment, spec.revision if declares else None)
    named = {**revision.spec.template.secrets, IDENTITY_VARIABLE: own}
    return {variable: open_secret(context, spec.workspace, named.get(variable, "")) for variable in spec.secrets}


@router.get("/{cloud}/calls", right=Right.AGENT, response_model=AgentCall, responses={204: {"description": "Nothing."}})
async def get_call(
    cloud: CloudParam, request: Request, context: WithContext, caller: WithCaller, wait_s: WaitParam = 20.0
) -> Response:
    """The next question to the agent; 204 when there is none within the wait."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + min(wait_s, LONGEST_WAIT_S)
    with context.streams.open(caller.uid):
        while not await request.is_disconnected():  # a question given to the poll of a dead agent would be lost
            await _check_key(context, caller)
            call = await context.broker.next_call(cloud, min(CHECK_S, ends_at - loop.time()))
            if call is not None:
                return Response(call.model_dump_json(), media_type="application/json")
            if loop.time() >= ends_at:
                break
    return Response(status_code=204)


@router.post(
    "/{cloud}/calls/{id}",
    right=Right.AGENT,
    status_code=204,
    openapi_extra={
        "requestBody": {"content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/LogLine"}}}}
    },
)
async def post_answer(
    cloud: CloudParam,
    call: Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{32}$")],
    request: Request,
    context: WithContext,
) -> Response:
    """Answer a question, line by line; the connection is closed when the reader has left."""
    complete = await context.broker.answer(cloud, call, request.stream())
    return Response(status_code=204, headers=None if complete else {"connection": "close"})


def _replicas(context: ApiContext, cloud: str) -> tuple[ReplicaSpec, ...]:
    found = context.plans.of(cloud)
    return () if found is None else (*found.plan.replicas, *found.plan.standby)


def _workloads(context: ApiContext, cloud: str) -> tuple[ReplicaSpec, ...]:
    """The replicas, and the attempts of jobs."""
    found = context.plans.of(cloud)
    attempts = found.plan.attempts if found else ()
    return (*_replicas(context, cloud), *(attempt.replica for attempt in attempts))


def open_secret(context: ApiContext, workspace: str, name: str) -> str:
    """The value of a secret. Raises `NotFound` when there is none."""
    secret = context.snapshot.find("secret", workspace, name)
    if secret is None:
        raise NotFound(f"There is no secret '{name}' in workspace '{workspace}'.", hint=f"kaon secret set {name}")
    return context.vault.open(workspace, name, secret.spec)


def view_of(cloud: Cloud, caller: Caller, now: float) -> CloudView:
    """The cloud as `caller` may see it, at `now` (epoch seconds)."""
    status: CloudStatus = cloud.status
    report = status.report or Report(cloud=cloud.name)
    services = (r for r in report.replicas if r.kind is WorkloadKind.SERVICE)
    visible = [r for r in services if caller.rights.sees(r.workspace, r.deployment)]
    return CloudView(
        name=cloud.name,
        driver=cloud.spec.driver,
        edge_url=cloud.spec.edge_url,
        seen_at=status.seen_at,
        connected=now - status.seen_at < AWAY_AFTER_S,
        phase=status.phase,
        reason=status.reason,
        cordoned=cloud.spec.cordoned,
        edge=report.edge,
        place=_place(status, report),
        replicas=len(visible),
        ready=0 if status.phase is CloudPhase.LOST else sum(r.phase is Phase.READY for r in visible),
    )


def _place(status: CloudStatus, report: Report) -> PlaceHealth:
    """The last reported health; that of a lost cloud is unknown."""
    if status.phase is CloudPhase.LOST:
        return PlaceHealth(state=PlaceState.UNAVAILABLE, reason=status.reason)
    return report.place
