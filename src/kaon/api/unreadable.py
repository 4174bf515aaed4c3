"""Stored rows that cannot be read, as lists show them: with the reason and the way out."""

from __future__ import annotations

from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.api.views import UnreadableView
from kaon.store.records import unreadable_row
from kaon.types.key import identity_deployment


def unreadable_in(context: ApiContext, caller: Caller, kind: str, workspace: str) -> list[UnreadableView]:
    """The rows of `kind` in `workspace` (empty: those of no workspace) that cannot be read, as far as the caller sees
    them: of deployments its own, of other kinds those who see the whole workspace."""
    rows = [row for row in context.snapshot.unreadable(kind) if row.workspace == workspace]
    rights = caller.rights
    visible = [
        row
        for row in rows
        if (rights.sees(workspace, row.name) if kind == "deployment" else rights.deployments is None)
        and (kind != "workspace" or rights.sees(row.name))
        and identity_deployment(row.name) is None
    ]
    return [
        UnreadableView(
            kind=kind, workspace=row.workspace, name=row.name, reason=row.reason, hint=unreadable_row(row).hint
        )
        for row in visible
    ]
