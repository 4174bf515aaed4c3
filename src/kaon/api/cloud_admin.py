"""`/clouds/{name}`: what admins change of a cloud: whether new deployments are placed there, and its end."""

from __future__ import annotations

from kaon.api import audit, edits
from kaon.api.clouds import view_of
from kaon.api.doors import Doors
from kaon.api.keyring import Caller
from kaon.api.parts import Named, Parts, WithCaller, WithParts
from kaon.api.views import CloudView
from kaon.errors import Conflict, Forbidden
from kaon.types.cloud import CloudPhase
from kaon.types.key import Right, Role
from kaon.types.resource import Cloud
from kaon.types.workspace import DEFAULT_WORKSPACE

doors = Doors("/clouds", tag="clouds")


@doors.post("/{name}/cordon", right=Right.ADMIN)
async def cordon_cloud(name: Named, parts: WithParts, caller: WithCaller) -> CloudView:
    """Place no new deployments there; what runs there stays. For admins of every workspace."""
    return await _set_cordoned(parts, caller, name, cordoned=True)


@doors.post("/{name}/uncordon", right=Right.ADMIN)
async def uncordon_cloud(name: Named, parts: WithParts, caller: WithCaller) -> CloudView:
    """Place new deployments there again. For admins of every workspace."""
    return await _set_cordoned(parts, caller, name, cordoned=False)


@doors.delete("/{name}", right=Right.ADMIN, status_code=204)
async def delete_cloud(name: Named, parts: WithParts, caller: WithCaller) -> None:
    """Delete a cloud that does not report any more, and its agent's keys; its deployments are placed in another one.

    For admins of every workspace.
    """
    _hold_to_everywhere(caller)
    cloud: Cloud = await parts.store.get("cloud", "", name)
    if cloud.status.phase in (CloudPhase.READY, CloudPhase.CORDONED):
        raise Conflict(
            f"The agent of cloud '{name}' still reports.",
            hint=f"Stop it first (`kaon down` there), and wait until `kaon cloud list` shows {CloudPhase.LOST}.",
        )
    for key in await parts.store.list_all("key"):
        if key.spec.role is Role.AGENT and key.spec.cloud == name:
            await edits.remove(parts.store, "key", key.workspace, key.name)
    await edits.remove(parts.store, "cloud", "", name)
    await _note(parts, caller, cloud, "CloudDeleted", "Deleted.")


async def _set_cordoned(parts: Parts, caller: Caller, name: str, *, cordoned: bool) -> CloudView:
    _hold_to_everywhere(caller)

    async def attempt() -> Cloud:
        cloud: Cloud = await parts.store.get("cloud", "", name)
        return await parts.store.update_spec(cloud, cloud.spec.model_copy(update={"cordoned": cordoned}))

    cloud = await edits.until_written(attempt)
    reason, message = ("CloudCordoned", "Cordoned.") if cordoned else ("CloudUncordoned", "Uncordoned.")
    await _note(parts, caller, cloud, reason, message)
    return view_of(cloud, caller, parts.clock.now())


def _hold_to_everywhere(caller: Caller) -> None:
    if caller.standing.workspace is not None or caller.standing.deployments is not None:
        raise Forbidden("Clouds are changed by an admin of every workspace.", hint="Ask one of them.")


async def _note(parts: Parts, caller: Caller, cloud: Cloud, reason: str, message: str) -> None:
    about = {"workspace": DEFAULT_WORKSPACE, "kind": "cloud", "name": cloud.name, "uid": cloud.uid}
    await audit.note(parts, caller, **about, reason=reason, message=message)
