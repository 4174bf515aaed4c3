"""`/audit` and `/workspaces/{ws}/audit`: the audit log, for admins."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query

from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.router import AuthorizedRouter
from kaon.api.views import AuditPage
from kaon.store.port import AuditQuery
from kaon.types.key import Right

router = AuthorizedRouter("", tag="audit")


async def _query(
    since: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="Only records since this time, epoch seconds.")
    ] = None,
    actor: Annotated[str | None, Query(max_length=80, description="Only of this key or controller.")] = None,
    kind: Annotated[str | None, Query(max_length=40, description="Only about this kind.")] = None,
    name: Annotated[str | None, Query(max_length=80, description="Only about resources of this name.")] = None,
    verb: Annotated[str | None, Query(max_length=40, description="Only this verb: create, put, scale, ...")] = None,
    after: Annotated[str | None, Query(pattern=r"^\d{1,18}$", description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Records of a page at most.")] = 100,
) -> AuditQuery:
    before_id = None if after is None else int(after)
    return AuditQuery(since=since, actor=actor, kind=kind, name=name, verb=verb, before_id=before_id, limit=limit)


AuditQueryParam = Annotated[AuditQuery, Depends(_query)]


@router.get("/audit", right=Right.ADMIN)
async def list_audit(query: AuditQueryParam, context: WithContext, caller: WithCaller) -> AuditPage:
    """Who changed what, everywhere, newest first; for a key of one workspace, in that one."""
    if (workspace := caller.rights.workspace) is not None:
        return await list_workspace_audit(workspace, query, context, caller)
    return await _page(context, caller, query)


@router.get("/workspaces/{ws}/audit", right=Right.ADMIN)
async def list_workspace_audit(
    ws: WorkspaceParam, query: AuditQueryParam, context: WithContext, caller: WithCaller
) -> AuditPage:
    """Who changed what in a workspace, newest first."""
    workspace = await context.store.get("workspace", "", ws)
    since = max(query.since or 0.0, workspace.created_at)  # older records belong to an earlier workspace of this name
    return await _page(context, caller, replace(query, workspace=ws, since=since))


async def _page(context: ApiContext, caller: Caller, query: AuditQuery) -> AuditPage:
    names = caller.rights.deployments
    if names is not None:  # a key for some deployments sees the records of these
        if query.kind not in (None, "deployment"):
            return AuditPage(items=[])
        query = replace(query, kind="deployment", names=sorted(names))
    found = await context.store.audit(replace(query, limit=query.limit + 1))
    page = found[: query.limit]
    return AuditPage(items=page, next=str(page[-1].id) if len(found) > len(page) else None)
