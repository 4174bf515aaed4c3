"""Owners of deployments: `/workspaces/{ws}/deployments/{name}/adopt`, and which deployments a key owns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kaon.api.checks import check_adoption
from kaon.api.deployment_edit import WithEdit, owned
from kaon.api.router import AuthorizedRouter
from kaon.api.views import DeploymentView
from kaon.laws.rights import line
from kaon.types.deployment import DeploymentSpec
from kaon.types.key import Right
from kaon.types.resource import Deployment, Key

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


@router.post("/{deployment}/adopt", right=Right.ADMIN)
async def adopt_deployment(edit: WithEdit) -> DeploymentView:
    """Become the owner of a deployment in place of a key that has ended. No replica is restarted.

    The key must be allowed to call what the deployment's services use.
    """

    async def check(current: Deployment, _: DeploymentSpec) -> None:
        await check_adoption(edit.context.store, edit.caller, edit.workspace, current)

    return await edit.write_spec(lambda current: owned(current.spec, edit.caller), "Adopted", "Adopted.", check)


def owned_by(deployments: Iterable[Deployment], keys: Iterable[Key]) -> dict[str, list[Deployment]]:
    """Key's uid -> the deployments that lose their owner with it: its own, and those of keys that it made."""
    by_uid = {key.uid: key for key in keys}
    found: defaultdict[str, list[Deployment]] = defaultdict(list)
    for deployment in sorted(deployments, key=lambda d: (d.workspace, d.name)):
        if owner := by_uid.get(deployment.spec.owner_uid):
            for key in line(owner, by_uid):
                found[key.uid].append(deployment)
    return found
