"""`/clouds/{cloud}/owners`: what exists, so that an agent knows which folders belong to something deleted."""

from __future__ import annotations

from kaon.api.context import CloudParam, WithContext
from kaon.api.router import AuthorizedRouter
from kaon.types.key import Right
from kaon.types.owners import FolderOwners

router = AuthorizedRouter("/clouds", tag="clouds")
_KINDS = ("deployment", "job")


@router.get("/{cloud}/owners", right=Right.AGENT)
async def get_owners(cloud: CloudParam, context: WithContext) -> FolderOwners:
    """The uids of all deployments and jobs, wherever they are placed, readable or not."""
    snapshot = context.snapshot
    uids = {row.uid for kind in _KINDS for row in snapshot.list(kind)}
    uids |= {row.uid for kind in _KINDS for row in snapshot.unreadable(kind)}
    return FolderOwners(uids=tuple(sorted(uids)))
