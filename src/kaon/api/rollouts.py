"""`/workspaces/{ws}/deployments/{name}/...`: rollouts: history, pause, promotion, undo, shadows.

No route moves traffic: each changes the spec.
"""

from __future__ import annotations

from pydantic import ValidationError

from kaon.api.checks import with_dataset_versions
from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.deployment_edit import DeploymentEdit, WithEdit, deployment_of, owned, with_template
from kaon.api.problems import Unprocessable
from kaon.api.router import AuthorizedRouter
from kaon.api.view_of import revision_state
from kaon.api.views import DeploymentView, Items, RevisionState, UndoRequest
from kaon.datasets.versions import pinned
from kaon.errors import Conflict, Unavailable
from kaon.types.deployment import DeploymentSpec, RolloutState, RolloutStatus, Shadow, Template, template_hash
from kaon.types.key import Right
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment, Revision
from kaon.types.shadow import ShadowReport, merged

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


def _sees(revision: Revision, read: ReadContext) -> bool:
    """Whether it belongs to an existing deployment, not to an earlier one of the same name."""
    deployment = read.find("deployment", revision.spec.deployment)
    own = deployment is not None and revision.spec.deployment_uid in ("", deployment.uid)
    return own and read.caller.rights.sees(read.workspace, revision.spec.deployment)


def _state(revision: Revision, read: ReadContext) -> RevisionState:
    deployment = read.find("deployment", revision.spec.deployment)
    assert deployment is not None, "`_sees` has found it"
    return revision_state(deployment, revision)


collection = Collection(kind=KINDS["revision"], sees=_sees, view=_state)


@router.post("/{deployment}/pause", right=Right.WRITE)
async def pause_deployment(edit: WithEdit) -> DeploymentView:
    """Pause the rollout where it is."""
    return await edit.set_spec("Paused", "The rollout is paused.", paused=True)


@router.post("/{deployment}/resume", right=Right.WRITE)
async def resume_deployment(edit: WithEdit) -> DeploymentView:
    """Resume a paused rollout."""
    return await edit.set_spec("Resumed", "The rollout is resumed.", paused=False)


@router.post("/{deployment}/promote", right=Right.WRITE)
async def promote_deployment(edit: WithEdit) -> DeploymentView:
    """Promote a canary without its remaining steps; without a canary, start the rollout of the shadow."""
    deployment = await edit.current()
    if (number := _canary(edit.context, deployment)) is not None:
        return await _promote_canary(edit, deployment.spec.template, number)
    shadow = deployment.spec.shadow
    if shadow is None:
        raise Unprocessable(
            f"'{edit.name}' has no canary and no shadow.",
            hint=f"See its state: kaon rollout status {edit.name}; start a canary: kaon deploy ... --canary 5,25,50",
        )
    template = shadow.template or pinned(_earlier(edit.context, deployment, shadow.revision).spec.template)

    def promoted(current: Deployment) -> DeploymentSpec:
        return owned(with_template(current.spec, template).model_copy(update={"shadow": None}), edit.caller)

    return await edit.write_spec(promoted, "Promoted", "The rollout of the shadow starts.", edit.check)


async def _promote_canary(edit: DeploymentEdit, template: Template, number: int) -> DeploymentView:
    def promoted(current: Deployment) -> DeploymentSpec:
        if current.spec.template != template:
            raise Conflict(f"The canary of '{edit.name}' has ended.", hint=f"See: kaon rollout status {edit.name}")
        return current.spec.model_copy(update={"promoted": number})

    message = f"Revision {number} takes over without further steps."
    return await edit.write_spec(promoted, "Promoted", message)


def _canary(context: ApiContext, deployment: Deployment) -> int | None:
    """The number of the revision of the spec's template, while it runs as a canary."""
    status: RolloutStatus = deployment.status.rollout
    if status.canary is None or status.state is RolloutState.STOPPED:
        return None
    number, hashed = status.canary.revision, template_hash(deployment.spec.template)
    hashes = {r.spec.number: r.spec.template_hash for r in _revisions(context, deployment)}
    return number if hashes.get(number) == hashed else None


@router.get("/{deployment}/revisions", right=Right.READ)
async def list_revisions_of_deployment(
    ws: WorkspaceParam, name: DeploymentParam, context: WithContext
) -> Items[RevisionState]:
    """The history, oldest first."""
    deployment = await deployment_of(context, ws, name)
    return Items(items=[revision_state(deployment, r) for r in _revisions(context, deployment)])


@router.post("/{deployment}/undo", right=Right.WRITE)
async def undo_deployment(edit: WithEdit, body: UndoRequest | None = None) -> DeploymentView:
    """Go back to an earlier revision: the given one, else the one that still serves, else the previous one."""
    deployment = await edit.current()
    revision = _earlier(edit.context, deployment, body.revision if body else None)

    def undone(current: Deployment) -> DeploymentSpec:
        return owned(with_template(current.spec, pinned(revision.spec.template)), edit.caller)

    return await edit.write_spec(undone, "Undone", f"Back to revision {revision.spec.number}.", edit.check)


@router.put("/{deployment}/shadow", right=Right.WRITE)
async def put_shadow(body: Shadow, edit: WithEdit) -> DeploymentView:
    """Send copies of calls to a revision. Its answers are discarded; its side effects are real."""
    deployment = await edit.current()
    if body.revision and body.revision in (deployment.status.rollout.stable, deployment.status.rollout.target):
        raise Unprocessable(
            f"Revision {body.revision} of '{edit.name}' serves already, or is being rolled out.",
            hint=f"Choose another one: kaon rollout history {edit.name}",
        )

    def shadowed(current: Deployment) -> DeploymentSpec:
        spec = current.spec.model_copy(update={"shadow": body})
        spec = with_dataset_versions(edit.context.snapshot, edit.workspace, spec)
        return spec if body.template is None else owned(spec, edit.caller)

    return await edit.write_spec(shadowed, "Shadowed", f"{body.percent:g} % of calls are copied.", edit.check)


@router.delete("/{deployment}/shadow", right=Right.WRITE, status_code=204)
async def delete_shadow(edit: WithEdit) -> None:
    """Stop sending copies of calls to a revision."""
    await edit.set_spec("Unshadowed", "No calls are copied.", shadow=None)


@router.get("/{deployment}/shadow", right=Right.READ)
async def get_shadow(
    ws: WorkspaceParam, name: DeploymentParam, context: WithContext, caller: WithCaller
) -> ShadowReport:
    """How the shadow's answers compare with those that callers got; revision 0 means that there is no shadow.

    Examples hold parts of real answers.
    """
    deployment = await deployment_of(context, ws, name)
    spec, revision = deployment.spec.shadow, deployment.status.rollout.shadow
    if spec is None or revision is None:
        return ShadowReport()
    clouds = [cloud.name for cloud in context.snapshot.list("cloud")]
    with context.streams.open(caller.uid):
        found = [report for cloud in clouds if (report := await _ask(context, cloud, ws, name)) is not None]
    if not found:
        raise Unavailable("No agent answers.", hint="Check whether it runs: kaon status", retry_after_s=5)
    return merged(found, revision, spec.percent)


async def _ask(context: ApiContext, cloud: str, ws: str, name: str) -> ShadowReport | None:
    """The comparison of one cloud's agent; None when it has none or does not answer."""
    with context.broker.ask(cloud, "shadow", {"workspace": ws, "deployment": name}) as question:
        try:
            await question.started()
            line = await question.line()
            return None if line is None else ShadowReport.model_validate_json(line)
        except (Unavailable, ValidationError):
            return None


def _revisions(context: ApiContext, deployment: Deployment) -> list[Revision]:
    """The revisions of this deployment, not of an earlier one of the same name, oldest first."""
    found = context.snapshot.of_deployment(deployment.workspace, deployment.name)
    own = [r for r in found if r.spec.deployment_uid in ("", deployment.uid)]
    return sorted(own, key=lambda r: r.spec.number)


def _earlier(context: ApiContext, deployment: Deployment, number: int | None) -> Revision:
    """The revision to go back to. Raises `Unprocessable` when there is none."""
    revisions = _revisions(context, deployment)
    wanted = _previous(deployment, revisions) if number is None else number
    for revision in revisions:
        if revision.spec.number == wanted:
            return revision
    raise Unprocessable(
        f"'{deployment.name}' has no such revision to go back to.",
        hint=f"List its revisions: kaon rollout history {deployment.name}",
    )


def _previous(deployment: Deployment, revisions: list[Revision]) -> int:
    """The number of the one that still serves, else the next lower number; 0 when there is none."""
    status: RolloutStatus = deployment.status.rollout
    hashed = template_hash(deployment.spec.template)
    now = next((r.spec.number for r in revisions if r.spec.template_hash == hashed), status.target)
    if status.stable is not None and status.stable != now:
        return status.stable
    return max((r.spec.number for r in revisions if now is not None and r.spec.number < now), default=0)
