"""`/workspaces/{ws}/deployments`: what should run, and small edits of it.

No route starts or stops anything: each changes the spec, and the reconcilers do the rest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Response

from kaon.api import audit, edits
from kaon.api.checks import check_name, check_spec
from kaon.api.doors import Doors
from kaon.api.gate import unseen_deployment
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, OfDeployment, Parts, WithCaller, WithParts
from kaon.api.problems import Unprocessable
from kaon.api.shapes import revision_states, view_of
from kaon.api.views import DeploymentView, Items, RevisionState, UndoRequest
from kaon.errors import Conflict
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, RolloutState, Scaling, Template, template_hash
from kaon.types.key import Right
from kaon.types.resource import Deployment, Revision

doors = Doors("/workspaces/{ws}/deployments", tag="deployments")
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The version that the change is based on.")]


@doors.get("", right=Right.READ)
async def list_deployments(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> Items[DeploymentView]:
    """The deployments of a workspace."""
    found = await parts.store.list_all("deployment", ws)
    return Items(items=[view_of(d, parts.settings.url) for d in found if caller.standing.sees(ws, d.name)])


@doors.get("/{deployment}", right=Right.READ)
async def get_deployment(ws: InWorkspace, name: OfDeployment, parts: WithParts) -> DeploymentView:
    """One deployment."""
    return view_of(await _get(parts, ws, name), parts.settings.url)


@doors.put("/{deployment}", right=Right.WRITE, responses={201: {"model": DeploymentView}})
async def put_deployment(
    ws: InWorkspace,
    name: OfDeployment,
    body: DeploymentSpec,
    response: Response,
    parts: WithParts,
    caller: WithCaller,
    dry_run: Annotated[bool, Query(description="Answer what would be; write nothing.")] = False,
    if_match: IfMatch = None,
) -> DeploymentView:
    """Create a deployment (201) or replace its spec (200)."""
    check_name(name)
    wanted = _version(if_match)

    async def attempt() -> tuple[Deployment, Deployment | None]:
        current = await parts.store.find("deployment", ws, name)
        _hold_to_version(wanted, current, name)
        spec = _with_last_restart(body, current)
        await check_spec(parts.store, caller, ws, spec, current)
        if dry_run:
            return _would_be(parts, ws, name, spec, current), current
        if current is None:
            return await parts.store.create("deployment", ws, name, spec), None
        return await parts.store.update_spec(current, spec), current

    after, before = await (attempt() if wanted is not None else edits.until_written(attempt))
    if not dry_run and (before is None or after.version != before.version):
        response.status_code = 201 if before is None else 200
        await _note(parts, caller, after, "Deployed", f"Generation {after.generation}: {body.template.artifact[:19]}.")
    return view_of(after, parts.settings.url)


@doors.delete("/{deployment}", right=Right.WRITE, status_code=204)
async def delete_deployment(ws: InWorkspace, name: OfDeployment, parts: WithParts, caller: WithCaller) -> None:
    """Take a deployment away; its replicas drain and stop."""
    await _get(parts, ws, name)
    gone = await edits.remove(parts.store, "deployment", ws, name)
    await _note(parts, caller, gone, "Deleted", "Deleted.")


@doors.post("/{deployment}/scale", right=Right.WRITE)
async def scale_deployment(
    ws: InWorkspace, name: OfDeployment, body: Scaling, parts: WithParts, caller: WithCaller
) -> DeploymentView:
    """Say how many replicas there may be."""
    return await _edit(
        parts,
        caller,
        (ws, name),
        lambda d: d.spec.model_copy(update={"scaling": body}),
        ("Scaled", f"To {body.min}..{body.max} replicas."),
    )


@doors.post("/{deployment}/restart", right=Right.WRITE)
async def restart_deployment(
    ws: InWorkspace, name: OfDeployment, parts: WithParts, caller: WithCaller
) -> DeploymentView:
    """Start every replica anew, as a rollout: the ready count does not drop."""
    now = parts.clock.now()

    def restarted(deployment: Deployment) -> DeploymentSpec:
        template = deployment.spec.template.model_copy(update={"restarted_at": now})
        return deployment.spec.model_copy(update={"template": template})

    return await _edit(parts, caller, (ws, name), restarted, ("Restarted", "Every replica starts anew."))


@doors.post("/{deployment}/pause", right=Right.WRITE)
async def pause_deployment(ws: InWorkspace, name: OfDeployment, parts: WithParts, caller: WithCaller) -> DeploymentView:
    """Hold the rollout where it is."""
    return await _edit(
        parts,
        caller,
        (ws, name),
        lambda d: d.spec.model_copy(update={"paused": True}),
        ("Paused", "The rollout is held."),
    )


@doors.post("/{deployment}/resume", right=Right.WRITE)
async def resume_deployment(
    ws: InWorkspace, name: OfDeployment, parts: WithParts, caller: WithCaller
) -> DeploymentView:
    """Let the rollout go on."""
    return await _edit(
        parts,
        caller,
        (ws, name),
        lambda d: d.spec.model_copy(update={"paused": False}),
        ("Resumed", "The rollout goes on."),
    )


@doors.get("/{deployment}/revisions", right=Right.READ)
async def list_revisions(ws: InWorkspace, name: OfDeployment, parts: WithParts) -> Items[RevisionState]:
    """The history, oldest first."""
    deployment = await _get(parts, ws, name)
    return Items(items=revision_states(deployment, await _revisions(parts, deployment)))


@doors.post("/{deployment}/undo", right=Right.WRITE)
async def undo_deployment(
    ws: InWorkspace,
    name: OfDeployment,
    parts: WithParts,
    caller: WithCaller,
    body: UndoRequest | None = None,
) -> DeploymentView:
    """Go back to an earlier revision: to the one before, when none is named."""
    deployment = await _get(parts, ws, name)
    revision = _earlier(deployment, await _revisions(parts, deployment), body.revision if body else None)
    template: Template = revision.spec.template

    def undone(current: Deployment) -> DeploymentSpec:
        return current.spec.model_copy(update={"template": template})

    await check_spec(parts.store, caller, ws, undone(deployment), deployment)
    number = revision.spec.number
    return await _edit(parts, caller, (ws, name), undone, ("Undone", f"Back to revision {number}."))


async def _get(parts: Parts, ws: str, name: str) -> Deployment:
    found = await parts.store.find("deployment", ws, name)
    if found is None:
        raise unseen_deployment(ws, name)
    return found


async def _edit(
    parts: Parts,
    caller: Caller,
    place: tuple[str, str],
    change: edits.Change,
    what: tuple[str, str],
) -> DeploymentView:
    await _get(parts, *place)
    after = await edits.edit_deployment(parts.store, *place, change)
    await _note(parts, caller, after, *what)
    return view_of(after, parts.settings.url)


async def _note(parts: Parts, caller: Caller, deployment: Deployment, reason: str, message: str) -> None:
    await audit.note(
        parts,
        caller,
        workspace=deployment.workspace,
        kind="deployment",
        name=deployment.name,
        reason=reason,
        message=message,
    )


async def _revisions(parts: Parts, deployment: Deployment) -> list[Revision]:
    """Those of this deployment, not of one that had its name before."""
    found = await parts.store.list_all("revision", deployment.workspace)
    own = [r for r in found if r.spec.deployment == deployment.name and r.spec.deployment_uid in ("", deployment.uid)]
    return sorted(own, key=lambda r: r.spec.number)


def _earlier(deployment: Deployment, revisions: list[Revision], number: int | None) -> Revision:
    """The revision to go back to. Raises `Unprocessable` when there is none."""
    by_number = {r.spec.number: r for r in revisions}
    if number is None:
        number = _one_before(deployment, revisions)
    if number not in by_number:
        raise Unprocessable(
            f"'{deployment.name}' has no such revision to go back to.",
            hint=f"`kaon rollout history {deployment.name}` lists those there are.",
        )
    return by_number[number]


def _one_before(deployment: Deployment, revisions: list[Revision]) -> int:
    """The one that still serves when the last rollout stopped, else the next lower number; 0: there is none."""
    status: DeploymentStatus = deployment.status
    hashed = template_hash(deployment.spec.template)
    now = next((r.spec.number for r in revisions if r.spec.template_hash == hashed), status.target)
    if status.state is RolloutState.STOPPED and status.stable is not None and status.stable != now:
        return status.stable
    return max((r.spec.number for r in revisions if now is not None and r.spec.number < now), default=0)


def _version(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not text.isdecimal() or len(text) > 18:
        raise Unprocessable("If-Match takes the version of a resource, a number.")
    return int(text)


def _hold_to_version(wanted: int | None, current: Deployment | None, name: str) -> None:
    if wanted is None or (current is not None and current.version == wanted):
        return
    now = "does not exist" if current is None else f"has version {current.version}"
    raise Conflict(f"Deployment '{name}' {now}, not version {wanted}.", hint="Read it again and repeat the change.")


def _with_last_restart(spec: DeploymentSpec, current: Deployment | None) -> DeploymentSpec:
    """A spec that says nothing of restarts keeps the last one: deploying the same again changes nothing."""
    if current is None or spec.template.restarted_at:
        return spec
    template = spec.template.model_copy(update={"restarted_at": current.spec.template.restarted_at})
    return spec.model_copy(update={"template": template})


def _would_be(parts: Parts, ws: str, name: str, spec: DeploymentSpec, current: Deployment | None) -> Deployment:
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
