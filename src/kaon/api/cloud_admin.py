"""`/clouds/{name}`: cordon, uncordon and delete a cloud, for admins."""

from __future__ import annotations

from kaon.api import audit, edits
from kaon.api.clouds import view_of
from kaon.api.context import ApiContext, Named, WithCaller, WithContext
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition, check_precondition
from kaon.api.router import AuthorizedRouter
from kaon.api.views import CloudView
from kaon.errors import Conflict, Forbidden
from kaon.store.writes import Delete, RecordAudit, UpdateSpec
from kaon.types.cloud import CloudPhase
from kaon.types.key import Right, Role
from kaon.types.resource import Cloud
from kaon.types.workspace import DEFAULT_WORKSPACE

router = AuthorizedRouter("/clouds", tag="clouds")


@router.post("/{name}/cordon", right=Right.ADMIN)
async def cordon_cloud(
    name: Named, context: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> CloudView:
    """Place no new deployments in a cloud; running ones stay. For admins of every workspace."""
    return await _set_cordoned(context, caller, precondition, name, cordoned=True)


@router.post("/{name}/uncordon", right=Right.ADMIN)
async def uncordon_cloud(
    name: Named, context: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> CloudView:
    """Place new deployments in a cloud again. For admins of every workspace."""
    return await _set_cordoned(context, caller, precondition, name, cordoned=False)


@router.delete("/{name}", right=Right.ADMIN, status_code=204)
async def delete_cloud(name: Named, context: WithContext, caller: WithCaller, precondition: WithPrecondition) -> None:
    """Delete a cloud that no longer reports, and its agent's keys; its deployments are placed in another one.

    For admins of every workspace.
    """
    _check_everywhere(caller)
    cloud: Cloud = await context.store.get("cloud", "", name)
    await check_precondition(context, precondition, cloud, "cloud", "", name)
    if cloud.status.phase in (CloudPhase.READY, CloudPhase.CORDONED):
        raise Conflict(
            f"The agent of cloud '{name}' still reports.",
            hint=f"Stop it first (`kaon down` there), and wait until `kaon cloud list` shows {CloudPhase.LOST}.",
        )

    async def attempt() -> None:
        keys = [k for k in await context.store.list_all("key") if k.spec.role is Role.AGENT and k.spec.cloud == name]
        within = [Delete(key) for key in keys]
        records = RecordAudit([audit.record_of(context, caller, each) for each in within])
        gone = Delete(await context.store.get("cloud", "", name))
        about = "CloudDeleted", "Deleted."
        own = audit.recorded(context, caller, gone, *about, event_in=DEFAULT_WORKSPACE)
        await context.store.write([*within, records, *own])

    await edits.retry_on_conflict(attempt)


async def _set_cordoned(
    context: ApiContext, caller: Caller, precondition: Precondition, name: str, *, cordoned: bool
) -> CloudView:
    _check_everywhere(caller)
    event = ("CloudCordoned", "Cordoned.") if cordoned else ("CloudUncordoned", "Uncordoned.")

    async def attempt() -> Cloud:
        cloud: Cloud = await context.store.get("cloud", "", name)
        await check_precondition(context, precondition, cloud, "cloud", "", name)
        change = UpdateSpec(cloud, cloud.spec.model_copy(update={"cordoned": cordoned}))
        return await audit.write(context, caller, change, *event, event_in=DEFAULT_WORKSPACE)

    return view_of(await edits.retry_on_conflict(attempt), caller, context.clock.now())


def _check_everywhere(caller: Caller) -> None:
    if not caller.rights.whole_platform:
        raise Forbidden("Only an admin of every workspace may change clouds.", hint="Ask an admin of every workspace.")
