"""A deployment's revisions: one for each of its templates, numbered from 1.

An earlier template that is deployed again gets its old number: an undo from revision 3 to 2 uses the replicas of 2
that still serve, and a list of revisions has each template once. A new template gets the next number. `restart` changes
the template, so it makes a new revision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kaon.control.rollout_messages import sent_back
from kaon.errors import NotFound
from kaon.store.port import Store
from kaon.store.records import unreadable_row
from kaon.store.snapshot import Snapshot
from kaon.store.writes import UpdateStatus
from kaon.types.deployment import (
    RevisionSpec,
    RevisionStatus,
    RolloutState,
    RolloutStatus,
    Template,
    in_use,
    template_hash,
)
from kaon.types.resource import Deployment, Revision, Unreadable

KEPT = 10
"""Revisions without replicas that are kept."""


def revisions(snapshot: Snapshot, workspace: str, deployment: str) -> list[Revision]:
    """All revisions of a deployment's name, by number."""
    return sorted(snapshot.of_deployment(workspace, deployment), key=lambda r: r.spec.number)


def unreadable(snapshot: Snapshot, workspace: str, deployment: str) -> dict[int, Unreadable]:
    """The unreadable revisions of a deployment's name, by number."""
    rows = [row for row in snapshot.unreadable("revision") if row.workspace == workspace]
    numbers = [(row.name.rpartition("-")[2], row) for row in rows if deployment_of(row) == deployment]
    return {int(number): row for number, row in numbers if number.isdecimal()}


def deployment_of(row: Unreadable) -> str:
    """The deployment of a revision, from its name."""
    return row.name.rpartition("-")[0]


async def numbered(store: Store, snapshot: Snapshot, deployment: Deployment) -> tuple[int, int | None, list[Revision]]:
    """The numbers of the target revision and of the shadow, created when they are new; and all revisions.

    Raises `UnreadableRow` for one that runs and cannot be read: its number and template are unknown.
    """
    lost = unreadable(snapshot, deployment.workspace, deployment.name)
    for number in sorted(in_use(deployment.status.rollout) & lost.keys()):
        raise unreadable_row(lost[number])
    kept = revisions(snapshot, deployment.workspace, deployment.name)
    for stranger in (r for r in kept if r.spec.deployment_uid != deployment.uid):
        await delete(store, stranger)  # of a deployment of this name that was deleted
    mine = [r for r in kept if r.spec.deployment_uid == deployment.uid]
    target = await _number(store, deployment, deployment.spec.template, mine, lost)
    shadow = deployment.spec.shadow
    if shadow is None:
        return target, None, mine
    if shadow.template is not None:
        return target, await _number(store, deployment, shadow.template, mine, lost), mine
    exists = any(r.spec.number == shadow.revision for r in mine)
    return target, shadow.revision if exists else None, mine


async def _number(
    store: Store, deployment: Deployment, template: Template, mine: list[Revision], taken: Collection[int]
) -> int:
    """The number of the template's revision, which is created and added to `mine` if it is missing."""
    hashed = template_hash(template)
    for revision in mine:
        if revision.spec.template_hash == hashed:
            return revision.spec.number
    number = max([*(r.spec.number for r in mine), *taken], default=0) + 1
    spec = RevisionSpec(
        deployment=deployment.name,
        deployment_uid=deployment.uid,
        number=number,
        template=template,
        template_hash=hashed,
    )
    mine.append(await store.create("revision", deployment.workspace, f"{deployment.name}-{number}", spec))
    return number


def outcomes(
    kept: Iterable[Revision], before: RolloutStatus, after: RolloutStatus, now: float
) -> Iterable[UpdateStatus]:
    """The writes for changed outcomes of revisions."""
    for revision in kept:
        found = _outcome(revision.spec.number, before, after)
        newly = before.state is not after.state and revision.spec.number == after.target
        if found and (found[0] != revision.status.outcome or (newly and found[1] != revision.status.reason)):
            yield UpdateStatus(revision, RevisionStatus(outcome=found[0], reason=found[1], at=now))


def _outcome(number: int, before: RolloutStatus, after: RolloutStatus) -> tuple[str, str] | None:
    """(outcome, reason) of a revision, if it has any."""
    if number == after.stable:
        return "served", ""
    if number == after.target and after.state is RolloutState.STOPPED:
        return "rolled back" if sent_back(after) else "failed", after.reason
    if number == before.target != after.target and before.state is RolloutState.PROGRESSING:
        return "withdrawn", f"It was replaced by revision {after.target} before it took over."
    return None


def running(
    kept: Iterable[Revision], before: RolloutStatus, target: int, shadow: int | None, reported: Iterable[int]
) -> list[Revision]:
    """The revisions with replicas, by the last decision or by reports, or soon to have some."""
    numbers = {*in_use(before), target, shadow, *reported}
    return [revision for revision in kept if revision.spec.number in numbers]


def finished(kept: Iterable[Revision], status: RolloutStatus) -> list[Revision]:
    """The revisions to delete: those without replicas, except the newest `KEPT`."""
    used = in_use(status)
    idle = [r for r in sorted(kept, key=lambda r: r.spec.number) if r.spec.number not in used]
    return idle[:-KEPT]


async def delete(store: Store, revision: Revision | Unreadable) -> None:
    """Delete a revision if it exists."""
    try:
        await store.delete(revision)
    except NotFound:
        pass
