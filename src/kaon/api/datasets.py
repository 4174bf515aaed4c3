"""`/workspaces/{ws}/datasets`: labels, and the end of a dataset."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path as PathParameter

from kaon.api import audit, edits
from kaon.api.collection import ReadContext, not_found
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.dataset_views import check_whole_workspace, collection, dataset_view, in_use_by
from kaon.api.keyring import Caller
from kaon.api.preconditions import WithPrecondition, check_precondition
from kaon.api.problems import Unprocessable
from kaon.api.router import AuthorizedRouter
from kaon.api.views import (
    DatasetView,
    LabelRequest,
)
from kaon.datasets.versions import (
    needed_by,
    uses,
    versions_of,
)
from kaon.errors import Conflict
from kaon.laws.datasets import LATEST
from kaon.store.port import AnyResource
from kaon.store.writes import Delete, RecordAudit, UpdateStatus
from kaon.types.key import Right
from kaon.types.model import Name
from kaon.types.resource import DatasetResource, Unreadable

_LABELS_MAX = 100
router = AuthorizedRouter("/workspaces/{ws}/datasets", tag="datasets")


@router.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_dataset(
    ws: WorkspaceParam,
    name: Named,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> None:
    """Delete a dataset with all its versions and labels, unless a deployment or a job needs one."""
    check_whole_workspace(caller)

    async def attempt() -> None:
        dataset = await edits.get_any(context.store, ("dataset", ws, name))
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        await context.snapshot.at_least(context.store.written)
        rows: list[AnyResource | Unreadable] = [*versions_of(context.snapshot, ws, name).values()]
        rows += [r for r in context.snapshot.unreadable("dataset-version") if _is_of(r, ws, name)]
        used = uses(context.snapshot, ws)
        for version in rows:
            if users := needed_by(used.get(version.name, [])):
                raise in_use_by(version.name, users)
        deletions = [Delete(version) for version in rows]
        records = RecordAudit([audit.record_of(context, caller, change) for change in deletions])
        message = f"Deleted, with {len(deletions):,} versions."
        own = audit.recorded(context, caller, Delete(dataset), "DatasetDeleted", message)
        await context.store.write([*deletions, records, *own])

    await edits.retry_on_conflict(attempt)


def _is_of(row: Unreadable, ws: str, dataset: str) -> bool:
    return row.workspace == ws and row.name.partition("@")[0] == dataset


@router.put("/{name}/labels/{label}", right=Right.WRITE)
async def set_label(
    ws: WorkspaceParam,
    name: Named,
    label: Annotated[Name, PathParameter()],
    body: LabelRequest,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DatasetView:
    """Set a label, or move it to another version. Deployments that follow it roll out."""
    check_whole_workspace(caller)
    if label == LATEST:
        raise Unprocessable("The label 'latest' moves by itself.", hint="Choose another label.")

    async def attempt() -> DatasetResource:
        await context.snapshot.at_least(context.store.written)
        dataset = await context.store.find("dataset", ws, name)
        if dataset is None:
            raise not_found(collection.kind, ws, name)
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        if body.number not in versions_of(context.snapshot, ws, name):
            raise Unprocessable(
                f"Dataset '{name}' has no version {body.number}.",
                hint=f"Its versions: kaon dataset describe {name}",
            )
        before = dataset.status.labels.get(label)
        labels = {**dataset.status.labels, label: body.number}
        if len(labels) > _LABELS_MAX:
            raise Conflict(f"A dataset has at most {_LABELS_MAX} labels.", hint="Move one that exists.")
        status = dataset.status.model_copy(update={"labels": labels})
        was = "" if before is None else f" It was version {before}."
        message = f"Label '{label}' is version {body.number}.{was}"
        return await audit.write(context, caller, UpdateStatus(dataset, status), "LabelSet", message)

    after = await edits.retry_on_conflict(attempt)
    return await _shown(context, caller, after)


@router.delete("/{name}/labels/{label}", right=Right.WRITE)
async def delete_label(
    ws: WorkspaceParam,
    name: Named,
    label: Annotated[Name, PathParameter()],
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> DatasetView:
    """Remove a label. Deployments that follow it stay at their version."""
    check_whole_workspace(caller)

    async def attempt() -> DatasetResource:
        dataset = await context.store.find("dataset", ws, name)
        if dataset is None:
            raise not_found(collection.kind, ws, name)
        await check_precondition(context, precondition, dataset, "dataset", ws, name)
        labels = {other: number for other, number in dataset.status.labels.items() if other != label}
        status = dataset.status.model_copy(update={"labels": labels})
        message = f"Label '{label}' is removed."
        return await audit.write(context, caller, UpdateStatus(dataset, status), "LabelRemoved", message)

    return await _shown(context, caller, await edits.retry_on_conflict(attempt))


async def _shown(context: ApiContext, caller: Caller, dataset: DatasetResource) -> DatasetView:
    await context.snapshot.at_least(context.store.written)
    return dataset_view(dataset, ReadContext(context, caller, dataset.workspace))
