"""Who answers for a deployment: `/workspaces/{ws}/deployments/{name}/adopt`, and which ones end with a key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kaon.api import audit, edits
from kaon.api.checks import check_adoption
from kaon.api.context import DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.deployments import deployment_to_change, owned
from kaon.api.preconditions import WithPrecondition
from kaon.api.router import AuthorizedRouter
from kaon.api.view_of import view_of
from kaon.api.views import DeploymentView
from kaon.laws.rights import line
from kaon.store.writes import UpdateSpec
from kaon.types.key import Right
from kaon.types.resource import Deployment, Key

doors = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


@doors.post("/{deployment}/adopt", right=Right.ADMIN)
async def adopt_deployment(
    ws: WorkspaceParam, name: DeploymentParam, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentView:
    """Answer for a deployment from now on, in place of a key that has ended. Nothing is started anew.

    The key must be allowed to call what the deployment's services use.
    """

    async def attempt() -> Deployment:
        current = await deployment_to_change(parts, ws, name, precondition)
        await check_adoption(parts.store, caller, ws, current)
        return await audit.write(parts, caller, UpdateSpec(current, owned(current.spec, caller)), "Adopted", "Adopted.")

    return view_of(await edits.until_written(attempt), parts.settings.url)


def answered_for(deployments: Iterable[Deployment], keys: Iterable[Key]) -> dict[str, list[Deployment]]:
    """Key's uid -> the deployments that would have no owner without it: its own, and those of keys that it made."""
    by_uid = {key.uid: key for key in keys}
    found: defaultdict[str, list[Deployment]] = defaultdict(list)
    for deployment in sorted(deployments, key=lambda d: (d.workspace, d.name)):
        if owner := by_uid.get(deployment.spec.owner_uid):
            for key in line(owner, by_uid):
                found[key.uid].append(deployment)
    return found
