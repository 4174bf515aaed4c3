"""`/gc`: list and delete what nothing refers to any more."""

from __future__ import annotations

from kaon.api import audit
from kaon.api.context import ApiContext, WithCaller, WithContext
from kaon.api.keyring import Caller
from kaon.api.router import AuthorizedRouter
from kaon.errors import Forbidden
from kaon.store.garbage import Collector, keep_of
from kaon.types.garbage import Collected
from kaon.types.key import Right
from kaon.types.workspace import DEFAULT_WORKSPACE

router = AuthorizedRouter("/gc", tag="platform")


@router.get("", right=Right.ADMIN)
async def find_garbage(context: WithContext, caller: WithCaller) -> Collected:
    """What may be deleted now: artifacts, bytes, keys and records without references, after their retention time."""
    return await _collector(context, caller).found()


@router.post("", right=Right.ADMIN)
async def collect_garbage(context: WithContext, caller: WithCaller) -> Collected:
    """Delete a batch of what may be deleted, and return it. The platform also does so by itself."""
    gone = await _collector(context, caller).collect()
    if gone:
        message = f"{len(gone.artifacts)} artifacts, {gone.blobs} files, {len(gone.keys)} keys were deleted."
        place = {"workspace": DEFAULT_WORKSPACE, "kind": "platform", "name": "gc"}
        await audit.note(context, caller, **place, reason="Collected", message=message)
    return gone


def _collector(context: ApiContext, caller: Caller) -> Collector:
    if not caller.rights.whole_platform:
        raise Forbidden(
            "Only an admin of every workspace may collect garbage.",
            hint="In your workspace: kaon rm artifact --unused",
        )
    return Collector(context.store, context.blobs, context.clock, keep_of(context.settings), context.uploads)
