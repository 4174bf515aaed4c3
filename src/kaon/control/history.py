"""A deployment's revisions: one for each template that it ever had, numbered from 1.

Going back to an earlier template goes back to its revision, by its old number: the replicas of revision 2
that still serve while 3 fails are the ones that an undo wants, and a list of revisions says what ran, each
once. A template that was not seen before gets the next number. `restart` makes another template, so it
makes another revision.
"""

from __future__ import annotations

from collections.abc import Iterable

from kaon.errors import NotFound
from kaon.store.port import Store
from kaon.types.deployment import DeploymentStatus, RevisionSpec, template_hash
from kaon.types.resource import Deployment, Revision

KEPT = 10
"""Revisions that are kept when nothing runs of them any more."""


async def revisions(store: Store, workspace: str, deployment: str) -> list[Revision]:
    """All revisions that are kept under a deployment's name, by number."""
    found = await store.list_all("revision", workspace)
    return sorted((r for r in found if r.spec.deployment == deployment), key=lambda r: r.spec.number)


async def target(store: Store, deployment: Deployment) -> tuple[int, list[Revision]]:
    """The number of the revision that should serve, made when it is new; and all revisions."""
    kept = await revisions(store, deployment.workspace, deployment.name)
    for stranger in (r for r in kept if r.spec.deployment_uid != deployment.uid):
        await delete(store, stranger)  # of a deployment of this name that was deleted
    mine = [r for r in kept if r.spec.deployment_uid == deployment.uid]
    wanted = template_hash(deployment.spec.template)
    for revision in mine:
        if revision.spec.template_hash == wanted:
            return revision.spec.number, mine
    number = max((r.spec.number for r in mine), default=0) + 1
    spec = RevisionSpec(
        deployment=deployment.name,
        deployment_uid=deployment.uid,
        number=number,
        template=deployment.spec.template,
        template_hash=wanted,
    )
    made = await store.create("revision", deployment.workspace, f"{deployment.name}-{number}", spec)
    return number, [*mine, made]


def finished(kept: Iterable[Revision], status: DeploymentStatus) -> list[Revision]:
    """The revisions that may go: of those that nothing runs of, all but the newest `KEPT`."""
    in_use = {status.target, status.stable, *(a.revision for a in status.assignments)}
    idle = [r for r in sorted(kept, key=lambda r: r.spec.number) if r.spec.number not in in_use]
    return idle[:-KEPT]


async def delete(store: Store, revision: Revision) -> None:
    """Take a revision away, if it is still there."""
    try:
        await store.delete(revision)
    except NotFound:
        pass
