"""`/workspaces/{ws}/deployments/{name}/decisions`: decisions, with their figures and reasons."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from kaon.api.context import DeploymentParam, WithContext, WorkspaceParam
from kaon.api.deployment_edit import deployment_of
from kaon.api.router import AuthorizedRouter
from kaon.api.views import Decisions
from kaon.types.journal import JournalEntry
from kaon.types.key import Right

_KEPT = 1000
router = AuthorizedRouter("/workspaces/{ws}/deployments/{deployment}/decisions", tag="deployments")


@router.get("", right=Right.READ)
async def list_decisions(
    ws: WorkspaceParam,
    name: DeploymentParam,
    context: WithContext,
    concern: Annotated[str | None, Query(pattern=r"^[a-z]{1,40}$", description="Only this concern.")] = None,
    since_s: Annotated[float | None, Query(gt=0, allow_inf_nan=False, description="Seconds back.")] = None,
    limit: Annotated[int, Query(ge=1, le=_KEPT)] = 20,
    lists: Annotated[
        bool, Query(description="Include figures that are lists, such as all results of the tuner's twin.")
    ] = True,
) -> Decisions:
    """The newest decisions, in order of time; and the current decision of the scaling law."""
    deployment = await deployment_of(context, ws, name)
    found = await context.store.journal(ws, name, concern, limit)
    earliest = 0.0 if since_s is None else context.clock.now() - since_s
    items = [entry if lists else _brief(entry) for entry in found if entry.at >= earliest]
    return Decisions(items=items, now=context.live_status.of(ws, name, deployment.uid))


def _brief(entry: JournalEntry) -> JournalEntry:
    figures = {name: value for name, value in entry.figures.items() if not isinstance(value, list)}
    return entry.model_copy(update={"figures": figures})
