"""`/workspaces/{ws}/deployments`: what should run, and small edits of it.

No route starts or stops anything: each changes the spec, and the reconcilers do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Query, Response
from pydantic import ValidationError

from kaon.api import audit, edits
from kaon.api.authorizer import unseen_deployment
from kaon.api.checks import check_hosts, check_name, check_spec, may_own
from kaon.api.collection import Collection
from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition, hold_to
from kaon.api.problems import Unprocessable
from kaon.api.quotas import hold_to_count
from kaon.api.router import AuthorizedRouter
from kaon.api.view_of import view_of
from kaon.api.views import DeploymentView, ScalingChange
from kaon.errors import NotFound
from kaon.store.writes import Create, UpdateSpec
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, Template
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment

doors = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")
collection = Collection(
    kind=KINDS["deployment"],
    view=lambda deployment, look: view_of(deployment, look.parts.settings.url),
    special=frozenset({Verb.PUT, Verb.DELETE}),
    parameter="deployment",
)


@doors.put("/{deployment}", right=Right.WRITE, responses={201: {"model": DeploymentView}})
async def put_deployment(
    ws: WorkspaceParam,
    name: DeploymentParam,
    body: DeploymentSpec,
    response: Response,
    parts: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
    dry_run: Annotated[bool, Query(description="Answer what would be; write nothing.")] = False,
) -> DeploymentView:
    """Create a deployment (201) or replace its spec (200)."""
    check_name(name)
    await check_hosts(parts.store, parts.settings.own_hosts, ws, name, body)

    async def attempt() -> tuple[Deployment, Deployment | None]:
        current = await parts.store.find("deployment", ws, name)
        await hold_to(parts, precondition, current, "deployment", ws, name)
        _hold_to_owner(body, current)
        spec = _with_last_requests(body, current)
        await check_spec(parts.store, caller, ws, spec, current, now=None if dry_run else parts.clock.now())
        if current is None or await may_own(parts.store, caller, ws, spec):
            spec = owned(spec, caller)
        else:
            spec = spec.model_copy(update={"owner": current.spec.owner, "owner_uid": current.spec.owner_uid})
        if dry_run:
            return _would_be(parts, ws, name, spec, current), current
        if current is None:
            await hold_to_count(parts, "deployment", ws)
            change: Create | UpdateSpec = Create("deployment", ws, name, spec)
        else:
            change = UpdateSpec(current, spec)
        generation = 1 if current is None else current.generation + 1
        message = f"Generation {generation}: {body.template.artifact[:19]}."
        return await audit.write(parts, caller, change, "Deployed", message), current

    after, before = await edits.until_written(attempt)
    if before is None and not dry_run:
        response.status_code = 201
    return view_of(after, parts.settings.url)


@doors.delete("/{deployment}", right=Right.WRITE, status_code=204)
async def delete_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """Delete a deployment; its replicas drain and stop."""
    try:
        await edits.delete(parts, caller, precondition, ("deployment", ws, name), "Deleted")
    except NotFound:
        raise unseen_deployment(ws, name) from None


@doors.post("/{deployment}/scale", right=Right.WRITE)
async def scale_deployment(
    ws: WorkspaceParam,
    name: DeploymentParam,
    body: ScalingChange,
    parts: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DeploymentView:
    """Say how many replicas there may be, and what decides it; what is not named stays."""

    def scaled(deployment: Deployment) -> DeploymentSpec:
        try:
            return deployment.spec.model_copy(update={"scaling": body.of(deployment.spec.scaling)})
        except ValidationError as error:
            raise Unprocessable(
                "That does not go with how it scales now.",
                hint="What is not named stays as it is: name min and max together.",
                errors=[
                    {"where": "scaling", "message": e["msg"].removeprefix("Value error, ")} for e in error.errors()
                ],
            ) from None

    def told(spec: DeploymentSpec) -> tuple[str, str]:
        return "Scaled", f"To {spec.scaling.min}..{spec.scaling.max} replicas."

    return await edited(parts, caller, precondition, (ws, name), scaled, told)


@doors.post("/{deployment}/restart", right=Right.WRITE)
async def restart_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentView:
    """Start every replica anew, as a rollout: the ready count does not drop."""
    now = parts.clock.now()

    def restarted(deployment: Deployment) -> DeploymentSpec:
        template = deployment.spec.template.model_copy(update={"restarted_at": now})
        return deployment.spec.model_copy(update={"template": template})

    told = "Restarted", "Every replica starts anew."
    return await edited(parts, caller, precondition, (ws, name), restarted, told)


async def deployment_of(parts: ApiContext, ws: str, name: str) -> Deployment:
    """The deployment, as whatever this server wrote has left it. Raises `NotFound`."""
    await parts.snapshot.at_least(parts.store.written)
    found = parts.snapshot.find("deployment", ws, name)
    if found is None:
        raise unseen_deployment(ws, name)
    return found


async def deployment_to_change(parts: ApiContext, ws: str, name: str, precondition: Precondition) -> Deployment:
    """The deployment as the store has it now. Raises `NotFound`, `ChangedSince` when it is not as it should be."""
    found = await parts.store.find("deployment", ws, name)
    if found is None:
        raise unseen_deployment(ws, name)
    await hold_to(parts, precondition, found, "deployment", ws, name)
    return found


async def edited(
    parts: ApiContext,
    caller: Caller,
    precondition: Precondition,
    place: tuple[str, str],
    change: Callable[[Deployment], DeploymentSpec],
    told: tuple[str, str] | Callable[[DeploymentSpec], tuple[str, str]],
) -> DeploymentView:
    """The deployment with its spec changed, with the event of it: `told` is its reason and message."""

    async def attempt() -> Deployment:
        current = await deployment_to_change(parts, *place, precondition)
        spec = change(current)
        reason, message = told(spec) if callable(told) else told
        return await audit.write(parts, caller, UpdateSpec(current, spec), reason, message)

    return view_of(await edits.until_written(attempt), parts.settings.url)


def owned(spec: DeploymentSpec, caller: Caller) -> DeploymentSpec:
    """A spec whose code `caller` has chosen, and answers for: it may call all that the services use."""
    return spec.model_copy(update={"owner": caller.name, "owner_uid": caller.uid})


def _hold_to_owner(spec: DeploymentSpec, current: Deployment | None) -> None:
    there = (current.spec.owner, current.spec.owner_uid) if current else ("", "")
    if (spec.owner, spec.owner_uid) not in (("", ""), there):
        raise Unprocessable("Who owns a deployment is not for its spec to say.", hint="Leave owner and owner_uid out.")


def with_template(spec: DeploymentSpec, template: Template) -> DeploymentSpec:
    """`spec` with another template: a promotion of the one before ends, since a canary may try the same one again."""
    return spec.model_copy(update={"template": template, "promoted": None})


def _with_last_requests(spec: DeploymentSpec, current: Deployment | None) -> DeploymentSpec:
    """A spec without a restart or a promotion keeps the last one: deploying the same again changes nothing."""
    if current is None:
        return spec
    restarted_at = spec.template.restarted_at or current.spec.template.restarted_at
    template = spec.template.model_copy(update={"restarted_at": restarted_at})
    kept = current.spec.promoted if template == current.spec.template else None
    return spec.model_copy(update={"template": template, "promoted": spec.promoted or kept})


def _would_be(parts: ApiContext, ws: str, name: str, spec: DeploymentSpec, current: Deployment | None) -> Deployment:
    if current is not None:
        more = int(current.spec != spec)
        return current.model_copy(update={"spec": spec, "generation": current.generation + more})
    now = parts.clock.now()
    return Deployment(
        kind="deployment",
        workspace=ws,
        name=name,
        uid="",
        version=0,
        generation=1,
        created_at=now,
        updated_at=now,
        spec=spec,
        status=DeploymentStatus(),
    )
