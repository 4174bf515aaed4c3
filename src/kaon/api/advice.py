"""`/workspaces/{ws}/advice`: what the figures say could be better, with the commands that do it."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.api.deployments import deployment_of
from kaon.api.doors import Doors
from kaon.api.parts import InWorkspace, OfDeployment, Parts, WithCaller, WithParts
from kaon.types.advice import Advised
from kaon.types.key import Right

doors = Doors("/workspaces/{ws}", tag="deployments")


@doors.get("/advice", right=Right.READ)
async def list_advice(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> Advised:
    """The advice on all deployments of a workspace, those that are well, and those of which nothing is known yet."""
    found = await parts.store.list_all("deployment", ws)
    return _advised(parts, ws, (d.name for d in found if caller.standing.sees(ws, d.name)))


@doors.get("/deployments/{deployment}/advice", right=Right.READ)
async def get_advice(ws: InWorkspace, name: OfDeployment, parts: WithParts) -> Advised:
    """The advice on one deployment."""
    await deployment_of(parts, ws, name)
    return _advised(parts, ws, [name])


def _advised(parts: Parts, ws: str, names: Iterable[str]) -> Advised:
    found = {name: parts.opinions.advice(ws, name) for name in names}
    return Advised(
        items=tuple(advice for standing in found.values() for advice in standing or ()),
        well=tuple(name for name, standing in found.items() if standing == ()),
        unknown=tuple(name for name, standing in found.items() if standing is None),
    )
