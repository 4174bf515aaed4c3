"""`/workspaces/{ws}/advice`: what the figures say could be better, with the commands that do it."""

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
    """The advice on all deployments of a workspace, those that are well, and those of which nothing is known yet."""
    found = context.snapshot.list("deployment", ws)
    return _advised(context, [d for d in found if caller.rights.sees(ws, d.name)])


@router.get("/deployments/{deployment}/advice", right=Right.READ)
async def get_advice(ws: WorkspaceParam, name: DeploymentParam, context: WithContext) -> Advised:
    """The advice on one deployment."""
    return _advised(context, [await deployment_of(context, ws, name)])


def _advised(context: ApiContext, deployments: Iterable[Deployment]) -> Advised:
    found = {d.name: context.live_status.advice(d.workspace, d.name, d.uid) for d in deployments}
    return Advised(
        items=tuple(advice for standing in found.values() for advice in standing or ()),
        well=tuple(name for name, standing in found.items() if standing == ()),
        unknown=tuple(name for name, standing in found.items() if standing is None),
    )
