"""From resources to views; pure."""

from __future__ import annotations

from kaon.api.views import DeploymentView, RevisionState
from kaon.types.deployment import RolloutState, RolloutStatus, template_hash
from kaon.types.resource import Deployment, Revision
from kaon.types.route import prefix_of


def view_of(deployment: Deployment, edge_url: str) -> DeploymentView:
    """The view of a deployment."""
    status: RolloutStatus = deployment.status.rollout
    return DeploymentView(
        **dict(deployment),
        url=edge_url + prefix_of(deployment.workspace, deployment.name),
        state=_state(deployment),
        reason=status.reason,
        ready=sum(a.ready for a in status.assignments if a.revision != status.shadow),
        replicas=sum(a.replicas for a in status.assignments if a.revision != status.shadow),
        revision=status.stable,
    )


def _state(deployment: Deployment) -> RolloutState:
    """The rollout's state; a status of an earlier spec does not count for the current one."""
    status: RolloutStatus = deployment.status.rollout
    if status.observed_generation >= deployment.generation:
        return status.state
    return RolloutState.PROGRESSING if status.observed_generation else RolloutState.PENDING


def revision_state(deployment: Deployment, revision: Revision) -> RevisionState:
    """The view of a revision of the deployment."""
    status: RolloutStatus = deployment.status.rollout
    number = revision.spec.number
    own = [a for a in status.assignments if a.revision == number]
    return RevisionState(
        name=revision.name,
        number=number,
        created_at=revision.created_at,
        artifact=revision.spec.template.artifact,
        state=_word(deployment, revision),
        outcome=revision.status.outcome,
        reason=revision.status.reason,
        replicas=sum(a.replicas for a in own),
        ready=sum(a.ready for a in own),
        spec=revision.spec,
    )


def _word(deployment: Deployment, revision: Revision) -> str:
    status: RolloutStatus = deployment.status.rollout
    if revision.spec.number == status.stable:
        return "serving"
    if revision.spec.number == status.shadow:
        return "shadow"
    is_target = revision.spec.template_hash == template_hash(deployment.spec.template)
    if is_target and revision.spec.number == status.target:
        is_canary = status.canary and status.canary.revision == revision.spec.number
        return "failed" if status.state is RolloutState.STOPPED else "on trial" if is_canary else "coming"
    return "past"
