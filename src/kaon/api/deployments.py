"""`/workspaces/{ws}/deployments`: the specs of deployments, and small edits of them.

No route starts or stops anything: each changes the spec, and the reconcilers do the rest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import ValidationError

from kaon.api import audit, edits
from kaon.api.authorizer import deployment_not_found
from kaon.api.checks import check_alone, check_hosts, check_name, check_spec, may_own, with_dataset_versions
from kaon.api.collection import Collection
from kaon.api.deployment_edit import WithEdit, owned
from kaon.api.preconditions import check_precondition
from kaon.api.problems import Unprocessable
from kaon.api.quotas import check_count
from kaon.api.resources import preview
from kaon.api.router import AuthorizedRouter
from kaon.api.view_of import view_of
from kaon.api.views import DeploymentView, ScalingChange
from kaon.errors import NotFound
from kaon.store.writes import Create, UpdateSpec
from kaon.types.deployment import DeploymentSpec, with_commands
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")
collection = Collection(
    kind=KINDS["deployment"],
    view=lambda deployment, read: view_of(deployment, read.context.settings.url),
    special=frozenset({Verb.PUT, Verb.DELETE}),
    parameter="deployment",
)


@router.put("/{deployment}", right=Right.WRITE, responses={201: {"model": DeploymentView}})
async def put_deployment(
    body: DeploymentSpec,
    response: Response,
    edit: WithEdit,
    dry_run: Annotated[bool, Query(description="Answer with the result; write nothing.")] = False,
) -> DeploymentView:
    """Create a deployment (201) or replace its spec (200)."""
    context, caller, ws, name = edit.context, edit.caller, edit.workspace, edit.name
    check_name(name)
    await check_hosts(context.store, context.settings.own_hosts, ws, name, body)

    async def attempt() -> tuple[Deployment, Deployment | None]:
        await context.snapshot.at_least(context.store.written)
        current = await context.store.find("deployment", ws, name)
        await check_precondition(context, edit.precondition, current, "deployment", ws, name)
        _check_owner(body, current)
        spec = with_dataset_versions(context.snapshot, ws, _with_last_requests(body, current))
        await check_spec(context.store, caller, ws, spec, current, now=None if dry_run else context.clock.now())
        if current is None or await may_own(context.store, caller, ws, spec):
            spec = owned(spec, caller)
        else:
            spec = spec.model_copy(update={"owner": current.spec.owner, "owner_uid": current.spec.owner_uid})
        if dry_run:
            return preview(collection.kind, context, ws, name, spec, current), current
        if current is None:
            await check_count(context, "deployment", ws)
            change: Create | UpdateSpec = Create("deployment", ws, name, spec)
        else:
            change = UpdateSpec(current, spec)
        generation = 1 if current is None else current.generation + 1
        message = f"Generation {generation}: {body.template.artifact[:19]}."
        return await audit.write(context, caller, change, "Deployed", message), current

    after, before = await edits.retry_on_conflict(attempt)
    if before is None and not dry_run:
        response.status_code = 201
    return view_of(after, context.settings.url)


@router.delete("/{deployment}", right=Right.WRITE, status_code=204)
async def delete_deployment(edit: WithEdit) -> None:
    """Delete a deployment; its replicas drain and stop."""
    place = "deployment", edit.workspace, edit.name
    try:
        await edits.delete(edit.context, edit.caller, edit.precondition, place, "Deleted")
    except NotFound:
        raise deployment_not_found(edit.workspace, edit.name) from None


@router.post("/{deployment}/scale", right=Right.WRITE)
async def scale_deployment(body: ScalingChange, edit: WithEdit) -> DeploymentView:
    """Set how many replicas there may be, and what decides it; fields that are left out stay as they are."""

    def scaled(deployment: Deployment) -> DeploymentSpec:
        try:
            return deployment.spec.model_copy(update={"scaling": body.of(deployment.spec.scaling)})
        except ValidationError as error:
            messages = [e["msg"].removeprefix("Value error, ") for e in error.errors()]
            raise Unprocessable(
                "This does not fit the current scaling.",
                hint="Fields that are left out keep their values: give min and max together.",
                errors=[{"where": "scaling", "message": message} for message in messages],
            ) from None

    async def check(_: Deployment, spec: DeploymentSpec) -> None:
        artifact = edit.context.snapshot.find("artifact", edit.workspace, spec.template.artifact)
        if artifact is not None:
            check_alone(spec, spec.template, artifact)

    return await edit.write_spec(
        scaled, "Scaled", lambda spec: f"To {spec.scaling.min}..{spec.scaling.max} replicas.", check
    )


@router.post("/{deployment}/restart", right=Right.WRITE)
async def restart_deployment(edit: WithEdit) -> DeploymentView:
    """Restart every replica, as a rollout: the number of ready replicas does not drop."""
    now = edit.context.clock.now()

    def restarted(deployment: Deployment) -> DeploymentSpec:
        template = deployment.spec.template.model_copy(update={"restarted_at": now})
        return deployment.spec.model_copy(update={"template": template})

    return await edit.write_spec(restarted, "Restarted", "Every replica is restarted.")


def _check_owner(spec: DeploymentSpec, current: Deployment | None) -> None:
    existing = (current.spec.owner, current.spec.owner_uid) if current else ("", "")
    if (spec.owner, spec.owner_uid) not in (("", ""), existing):
        raise Unprocessable(
            "The owner of a deployment cannot be set in its spec.", hint="Leave owner and owner_uid out."
        )


def _with_last_requests(spec: DeploymentSpec, current: Deployment | None) -> DeploymentSpec:
    """A spec without a restart or a promotion keeps the last one: deploying the same spec again changes nothing.

    Requests to the tuner are never those of the spec: `POST /tuning` makes them.
    """
    spec = with_commands(spec, current.spec.tuning.commands if current else ())
    if current is None:
        return spec
    restarted_at = spec.template.restarted_at or current.spec.template.restarted_at
    template = spec.template.model_copy(update={"restarted_at": restarted_at})
    kept = current.spec.promoted if template == current.spec.template else None
    return spec.model_copy(update={"template": template, "promoted": spec.promoted or kept})
