"""`/workspaces/{ws}/advice`: what the figures say could be better, with the commands that do it."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.deployments import deployment_of
from kaon.api.router import AuthorizedRouter
from kaon.types.advice import Advised
from kaon.types.key import Right
from kaon.types.resource import Deployment

doors = AuthorizedRouter("/workspaces/{ws}", tag="deployments")


@doors.get("/advice", right=Right.READ)
async def list_advice(ws: WorkspaceParam, parts: WithContext, caller: WithCaller) -> Advised:
    """The advice on all deployments of a workspace, those that are well, and those of which nothing is known yet."""
    found = parts.snapshot.list("deployment", ws)
    return _advised(parts, [d for d in found if caller.standing.sees(ws, d.name)])


@doors.get("/deployments/{deployment}/advice", right=Right.READ)
async def get_advice(ws: WorkspaceParam, name: DeploymentParam, parts: WithContext) -> Advised:
    """The advice on one deployment."""
    return _advised(parts, [await deployment_of(parts, ws, name)])


def _advised(parts: ApiContext, deployments: Iterable[Deployment]) -> Advised:
    found = {d.name: parts.opinions.advice(d.workspace, d.name, d.uid) for d in deployments}
    return Advised(
        items=tuple(advice for standing in found.values() for advice in standing or ()),
        well=tuple(name for name, standing in found.items() if standing == ()),
        unknown=tuple(name for name, standing in found.items() if standing is None),
    )
