"""Read, change, write; repeated after a concurrent write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from kaon.api import audit
from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.api.preconditions import ChangedSince, Precondition, check_precondition
from kaon.errors import Conflict, UnreadableRow
from kaon.store.port import AnyResource, Store
from kaon.types.artifact import ArtifactStatus
from kaon.types.names import ResourceKey
from kaon.types.resource import Artifact, Unreadable

T = TypeVar("T")
_TRIES = 5


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, repeated after a `Conflict`; the fifth is raised."""
    for _ in range(_TRIES - 1):
        try:
            return await attempt()
        except ChangedSince:
            raise
        except Conflict:
            continue
    return await attempt()


async def delete(
    context: ApiContext,
    caller: Caller,
    precondition: Precondition,
    place: ResourceKey,
    reason: str,
    message: str = "Deleted.",
    *,
    event_in: str | None = None,
) -> AnyResource | Unreadable:
    """Delete a resource, readable or not, with an audit record and an event. Raises `NotFound`, `Conflict`."""

    async def attempt() -> AnyResource | Unreadable:
        resource = await get_any(context.store, place)
        await check_precondition(context, precondition, resource, *place)
        await audit.delete(context, caller, resource, reason, message, event_in=event_in)
        return resource

    return await retry_on_conflict(attempt)


async def touch_artifact(store: Store, workspace: str, digest: str, now: float) -> Artifact:
    """Mark an artifact as used at `now`, so that garbage collection keeps it. Raises `NotFound`."""

    async def attempt() -> Artifact:
        artifact = await store.get("artifact", workspace, digest)
        return await store.update_status(artifact, ArtifactStatus(used_at=now))

    return await retry_on_conflict(attempt)


async def get_any(store: Store, place: ResourceKey) -> AnyResource | Unreadable:
    """A resource, readable or not. Raises `NotFound`."""
    found: AnyResource | Unreadable
    try:
        found = await store.get(*place)
    except UnreadableRow as error:
        found = error.row
    return found
