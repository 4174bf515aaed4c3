"""`/workspaces/{ws}/deployments/{name}/...`: how a revision takes over: history, hold, promotion, going back, shadows.

No route moves anything: each changes the spec, or notes in the status that somebody has said yes to a canary.
"""

from __future__ import annotations

from pydantic import ValidationError

from kaon.api.checks import check_spec
from kaon.api.collection import Collection, Look
from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.deployments import deployment_of, deployment_to_change, edited, owned, with_template
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition
from kaon.api.problems import Unprocessable
from kaon.api.router import AuthorizedRouter
from kaon.api.view_of import revision_state
from kaon.api.views import DeploymentView, Items, RevisionState, UndoRequest
from kaon.errors import Conflict, Unavailable
from kaon.types.deployment import DeploymentSpec, RolloutState, RolloutStatus, Shadow, Template, template_hash
from kaon.types.key import Right
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment, Revision
from kaon.types.shadow import ShadowReport, merged

doors = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


def _sees(revision: Revision, look: Look) -> bool:
    """Those of a deployment that is there, not of one that had its name before."""
    deployment = look.find("deployment", revision.spec.deployment)
    own = deployment is not None and revision.spec.deployment_uid in ("", deployment.uid)
    return own and look.caller.standing.sees(look.workspace, revision.spec.deployment)


def _state(revision: Revision, look: Look) -> RevisionState:
    deployment = look.find("deployment", revision.spec.deployment)
    assert deployment is not None, "it is seen"
    return revision_state(deployment, revision)


collection = Collection(kind=KINDS["revision"], sees=_sees, view=_state)


@doors.post("/{deployment}/pause", right=Right.WRITE)
async def pause_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentView:
    """Hold the rollout where it is."""
    return await edited(
        parts,
        caller,
        precondition,
        (ws, name),
        lambda d: d.spec.model_copy(update={"paused": True}),
        ("Paused", "The rollout is held."),
    )


@doors.post("/{deployment}/resume", right=Right.WRITE)
async def resume_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentView:
    """Let the rollout go on."""
    return await edited(
        parts,
        caller,
        precondition,
        (ws, name),
        lambda d: d.spec.model_copy(update={"paused": False}),
        ("Resumed", "The rollout goes on."),
    )


@doors.post("/{deployment}/promote", right=Right.WRITE)
async def promote_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentView:
    """Let a canary take over without its further steps; without a canary, let the shadow begin its rollout."""
    deployment = await deployment_to_change(parts, ws, name, precondition)
    if (number := _on_trial(parts, deployment)) is not None:
        return await _promote_canary(parts, caller, precondition, deployment, number)
    shadow = deployment.spec.shadow
    if shadow is None:
        raise Unprocessable(
            f"No revision of '{name}' is on trial.",
            hint=f"See how it is: kaon rollout status {name}; try one: kaon deploy ... --canary 5,25,50",
        )
    template = shadow.template or await _template(parts, deployment, shadow.revision)

    def promoted(current: Deployment) -> DeploymentSpec:
        return owned(with_template(current.spec, template).model_copy(update={"shadow": None}), caller)

    await check_spec(parts.store, caller, ws, promoted(deployment), deployment, now=parts.clock.now())
    told = "Promoted", "The shadow begins to take over."
    return await edited(parts, caller, precondition, (ws, name), promoted, told)


async def _promote_canary(
    parts: ApiContext, caller: Caller, precondition: Precondition, deployment: Deployment, number: int
) -> DeploymentView:
    template = deployment.spec.template

    def promoted(current: Deployment) -> DeploymentSpec:
        if current.spec.template != template:
            raise Conflict(
                f"The canary of '{current.name}' has ended.", hint=f"See: kaon rollout status {current.name}"
            )
        return current.spec.model_copy(update={"promoted": number})

    told = "Promoted", f"Revision {number} takes over without further steps."
    return await edited(parts, caller, precondition, (deployment.workspace, deployment.name), promoted, told)


def _on_trial(parts: ApiContext, deployment: Deployment) -> int | None:
    """The number of the revision of the spec's template, while it is tried as a canary."""
    status: RolloutStatus = deployment.status.rollout
    if status.canary is None or status.state is RolloutState.STOPPED:
        return None
    hashed = template_hash(deployment.spec.template)
    return next(
        (
            r.spec.number
            for r in _revisions(parts, deployment)
            if r.spec.template_hash == hashed and r.spec.number == status.canary.revision
        ),
        None,
    )


@doors.get("/{deployment}/revisions", right=Right.READ)
async def list_revisions_of_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext
) -> Items[RevisionState]:
    """The history, oldest first."""
    deployment = await deployment_of(parts, ws, name)
    return Items(items=[revision_state(deployment, r) for r in _revisions(parts, deployment)])


@doors.post("/{deployment}/undo", right=Right.WRITE)
async def undo_deployment(
    ws: WorkspaceParam,
    name: DeploymentParam,
    parts: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
    body: UndoRequest | None = None,
) -> DeploymentView:
    """Go back to an earlier revision; when none is named, to the one that still serves, else to the one before."""
    deployment = await deployment_to_change(parts, ws, name, precondition)
    revision = _earlier(deployment, _revisions(parts, deployment), body.revision if body else None)
    template: Template = revision.spec.template

    def undone(current: Deployment) -> DeploymentSpec:
        return owned(with_template(current.spec, template), caller)

    await check_spec(parts.store, caller, ws, undone(deployment), deployment, now=parts.clock.now())
    number = revision.spec.number
    told = "Undone", f"Back to revision {number}."
    return await edited(parts, caller, precondition, (ws, name), undone, told)


@doors.put("/{deployment}/shadow", right=Right.WRITE)
async def put_shadow(
    ws: WorkspaceParam,
    name: DeploymentParam,
    body: Shadow,
    parts: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DeploymentView:
    """Let a revision get copies of calls. Its answers go to nobody; what it does besides answering, it does."""
    deployment = await deployment_to_change(parts, ws, name, precondition)
    if body.revision and body.revision in (deployment.status.rollout.stable, deployment.status.rollout.target):
        raise Unprocessable(
            f"Revision {body.revision} of '{name}' serves, or is about to.", hint="Name another, of the history."
        )

    def shadowed(current: Deployment) -> DeploymentSpec:
        spec = current.spec.model_copy(update={"shadow": body})
        return spec if body.template is None else owned(spec, caller)

    await check_spec(parts.store, caller, ws, shadowed(deployment), deployment, now=parts.clock.now())
    told = "Shadowed", f"{body.percent:g} % of calls are copied."
    return await edited(parts, caller, precondition, (ws, name), shadowed, told)


@doors.delete("/{deployment}/shadow", right=Right.WRITE, status_code=204)
async def delete_shadow(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """Let no revision get copies of calls any more."""
    await edited(
        parts,
        caller,
        precondition,
        (ws, name),
        lambda d: d.spec.model_copy(update={"shadow": None}),
        ("Unshadowed", "No calls are copied."),
    )


@doors.get("/{deployment}/shadow", right=Right.READ)
async def get_shadow(ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller) -> ShadowReport:
    """How the shadow's answers compare with those that callers got; revision 0: there is no shadow.

    Examples hold parts of real answers.
    """
    deployment = await deployment_of(parts, ws, name)
    spec, revision = deployment.spec.shadow, deployment.status.rollout.shadow
    if spec is None or revision is None:
        return ShadowReport()
    clouds = [cloud.name for cloud in parts.snapshot.list("cloud")]
    with parts.lasting.one(caller.uid):
        found = [report for cloud in clouds if (report := await _ask(parts, cloud, ws, name)) is not None]
    if not found:
        raise Unavailable("No agent answers.", hint="`kaon status` says whether it runs.", retry_after_s=5)
    return merged(found, revision, spec.percent)


async def _ask(parts: ApiContext, cloud: str, ws: str, name: str) -> ShadowReport | None:
    """What one cloud's agent has compared; None when it does not say."""
    with parts.broker.ask(cloud, "shadow", {"workspace": ws, "deployment": name}) as question:
        try:
            await question.begun()
            line = await question.line()
            return None if line is None else ShadowReport.model_validate_json(line)
        except (Unavailable, ValidationError):
            return None


def _revisions(parts: ApiContext, deployment: Deployment) -> list[Revision]:
    """Those of this deployment, not of one that had its name before."""
    found = parts.snapshot.of_deployment(deployment.workspace, deployment.name)
    own = [r for r in found if r.spec.deployment_uid in ("", deployment.uid)]
    return sorted(own, key=lambda r: r.spec.number)


async def _template(parts: ApiContext, deployment: Deployment, number: int | None) -> Template:
    return _earlier(deployment, _revisions(parts, deployment), number).spec.template


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
    """The one that serves while another has not taken over, else the next lower number; 0: there is none."""
    status: RolloutStatus = deployment.status.rollout
    hashed = template_hash(deployment.spec.template)
    now = next((r.spec.number for r in revisions if r.spec.template_hash == hashed), status.target)
    if status.stable is not None and status.stable != now:
        return status.stable
    return max((r.spec.number for r in revisions if now is not None and r.spec.number < now), default=0)
