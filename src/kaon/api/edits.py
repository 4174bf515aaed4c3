"""Read, change, write, and again when somebody wrote in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from kaon.errors import Conflict, UnreadableRow
from kaon.store.port import AnyResource, Store, Unreadable
from kaon.types.artifact import ArtifactStatus
from kaon.types.deployment import DeploymentSpec
from kaon.types.resource import Artifact, Deployment

T = TypeVar("T")
Change = Callable[[Deployment], DeploymentSpec]
_TRIES = 5


async def until_written(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` answers, tried anew while it meets a `Conflict`; the fifth is the caller's."""
    for _ in range(_TRIES - 1):
        try:
            return await attempt()
        except Conflict:
            continue
    return await attempt()


async def edit_deployment(store: Store, workspace: str, name: str, change: Change) -> Deployment:
    """Put `change` of the spec in place of the spec. Raises `NotFound`, `Conflict`."""

    async def attempt() -> Deployment:
        deployment = await store.get("deployment", workspace, name)
        return await store.update_spec(deployment, change(deployment))

    return await until_written(attempt)


async def touch_artifact(store: Store, workspace: str, digest: str, now: float) -> Artifact:
    """Note that an artifact is used at `now`, so that one that is about to be collected stays. Raises `NotFound`."""

    async def attempt() -> Artifact:
        artifact = await store.get("artifact", workspace, digest)
        return await store.update_status(artifact, ArtifactStatus(used_at=now))

    return await until_written(attempt)


async def exists(store: Store, kind: str, workspace: str, name: str) -> bool:
    """Whether there is a resource of that name, be it one that cannot be read."""
    try:
        return await store.find(kind, workspace, name) is not None
    except UnreadableRow:
        return True


async def remove(store: Store, kind: str, workspace: str, name: str) -> AnyResource | Unreadable:
    """Delete a resource, whatever was written to it last, and be it unreadable. Raises `NotFound`, `Conflict`."""

    async def attempt() -> AnyResource | Unreadable:
        resource: AnyResource | Unreadable
        try:
            resource = await store.get(kind, workspace, name)
        except UnreadableRow as error:
            resource = error.row
        await store.delete(resource)
        return resource

    return await until_written(attempt)
