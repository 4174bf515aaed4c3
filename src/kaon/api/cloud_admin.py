"""`/clouds/{name}`: what admins change of a cloud: whether new deployments are placed there, and its end."""

from __future__ import annotations

from kaon.api import audit, edits
from kaon.api.clouds import view_of
from kaon.api.context import ApiContext, Named, WithCaller, WithContext
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition, hold_to
from kaon.api.router import AuthorizedRouter
from kaon.api.views import CloudView
from kaon.errors import Conflict, Forbidden
from kaon.store.writes import Delete, RecordAudit, UpdateSpec
from kaon.types.cloud import CloudPhase
from kaon.types.key import Right, Role
from kaon.types.resource import Cloud
from kaon.types.workspace import DEFAULT_WORKSPACE

doors = AuthorizedRouter("/clouds", tag="clouds")


@doors.post("/{name}/cordon", right=Right.ADMIN)
async def cordon_cloud(
    name: Named, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> CloudView:
    """Place no new deployments there; what runs there stays. For admins of every workspace."""
    return await _set_cordoned(parts, caller, precondition, name, cordoned=True)


@doors.post("/{name}/uncordon", right=Right.ADMIN)
async def uncordon_cloud(
    name: Named, parts: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> CloudView:
    """Place new deployments there again. For admins of every workspace."""
    return await _set_cordoned(parts, caller, precondition, name, cordoned=False)


@doors.delete("/{name}", right=Right.ADMIN, status_code=204)
async def delete_cloud(name: Named, parts: WithContext, caller: WithCaller, precondition: WithPrecondition) -> None:
    """Delete a cloud that does not report any more, and its agent's keys; its deployments are placed in another one.

    For admins of every workspace.
    """
    _hold_to_everywhere(caller)
    cloud: Cloud = await parts.store.get("cloud", "", name)
    await hold_to(parts, precondition, cloud, "cloud", "", name)
    if cloud.status.phase in (CloudPhase.READY, CloudPhase.CORDONED):
        raise Conflict(
            f"The agent of cloud '{name}' still reports.",
            hint=f"Stop it first (`kaon down` there), and wait until `kaon cloud list` shows {CloudPhase.LOST}.",
        )

    async def attempt() -> None:
        keys = [k for k in await parts.store.list_all("key") if k.spec.role is Role.AGENT and k.spec.cloud == name]
        within = [Delete(key) for key in keys]
        records = RecordAudit([audit.record_of(parts, caller, each) for each in within])
        gone = Delete(await parts.store.get("cloud", "", name))
        about = "CloudDeleted", "Deleted."
        own = audit.recorded(parts, caller, gone, *about, event_in=DEFAULT_WORKSPACE)
        await parts.store.write([*within, records, *own])

    await edits.until_written(attempt)


async def _set_cordoned(
    parts: ApiContext, caller: Caller, precondition: Precondition, name: str, *, cordoned: bool
) -> CloudView:
    _hold_to_everywhere(caller)
    told = ("CloudCordoned", "Cordoned.") if cordoned else ("CloudUncordoned", "Uncordoned.")

    async def attempt() -> Cloud:
        cloud: Cloud = await parts.store.get("cloud", "", name)
        await hold_to(parts, precondition, cloud, "cloud", "", name)
        change = UpdateSpec(cloud, cloud.spec.model_copy(update={"cordoned": cordoned}))
        return await audit.write(parts, caller, change, *told, event_in=DEFAULT_WORKSPACE)

    return view_of(await edits.until_written(attempt), caller, parts.clock.now())


def _hold_to_everywhere(caller: Caller) -> None:
    if caller.standing.workspace is not None or caller.standing.deployments is not None:
        raise Forbidden("Clouds are changed by an admin of every workspace.", hint="Ask one of them.")
