"""`/workspaces/{ws}/advice`: what could be improved according to the figures, with the commands for it."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.deployment_edit import deployment_of
from kaon.api.router import AuthorizedRouter
from kaon.types.advice import Advised
from kaon.types.key import Right
from kaon.types.resource import Deployment

router = AuthorizedRouter("/workspaces/{ws}", tag="deployments")


@router.get("/advice", right=Right.READ)
async def list_advice(ws: WorkspaceParam, context: WithContext, caller: WithCaller) -> Advised:
    """Advice on all deployments of a workspace; those without findings, and those without figures yet."""
    found = context.snapshot.list("deployment", ws)
    return _advised(context, [d for d in found if caller.rights.sees(ws, d.name)])


@router.get("/deployments/{deployment}/advice", right=Right.READ)
async def get_advice(ws: WorkspaceParam, name: DeploymentParam, context: WithContext) -> Advised:
    """Advice on one deployment."""
    return _advised(context, [await deployment_of(context, ws, name)])


def _advised(context: ApiContext, deployments: Iterable[Deployment]) -> Advised:
    found = {d.name: context.live_status.advice(d.workspace, d.name, d.uid) for d in deployments}
    return Advised(
        items=tuple(advice for active in found.values() for advice in active or ()),
        well=tuple(name for name, active in found.items() if active == ()),
        unknown=tuple(name for name, active in found.items() if active is None),
    )
