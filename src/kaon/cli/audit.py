"""`kaon audit`: who changed what, and what was refused."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kaon.cli.shared.options import OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, TableShape, put_list
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import seconds, since
from kaon.types.audit import ActorKind, AuditRecord, Outcome

app = verbs()


@verb(
    app,
    "kaon audit",
    "kaon audit greeter --since 7d",
    "kaon audit --actor ci --verb put",
    "kaon audit --everywhere --kind key -o json",
)
def audit(
    name: Annotated[str, typer.Argument(help="Only changes of the resource with this name.", show_default=False)] = "",
    period: Annotated[str, typer.Option("--since", metavar="TIME", help="Only the last period, like 1h or 7d.")] = "",
    actor: Annotated[str, typer.Option(help="Only changes by this key or controller.")] = "",
    kind: Annotated[str, typer.Option(help="Only changes of resources of this kind.")] = "",
    verb: Annotated[str, typer.Option(help="Only this verb: create, put, delete, scale, ...")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of records.")] = 50,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="In all workspaces, and of the platform itself.")
    ] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List who changed what, from where, and what was refused; newest last. For admins.

    Every change is recorded in the transaction that makes it, with hashes of the state before and after. Values of
    secrets and keys are never recorded. KAON_AUDIT_RECORDS and KAON_AUDIT_DAYS set how much is kept.
    """
    now = time.time()
    filters = {"name": name, "actor": actor, "kind": kind.lower().removesuffix("s"), "verb": verb}
    query: dict[str, str | int | float] = {key: value for key, value in filters.items() if value}
    if period:
        query["since"] = max(0.0, now - seconds(period))
    with opened(workspace) as remote:
        records = remote.audit(everywhere=everywhere, limit=limit, **query)
    put_list(records[::-1], audit_table(now), output)


def audit_table(now: float) -> TableShape[AuditRecord]:
    """Audit records as a table."""
    return TableShape(
        ("age", "who", "did", "about", "from"),
        lambda r: (since(r.at, now), _actor(r), _verb(r), _resource(r), r.address or "-"),
        lambda r: str(r.id),
    )


def _actor(record: AuditRecord) -> str:
    return record.actor if record.actor_kind is ActorKind.KEY else f"{record.actor} ({record.actor_kind})"


def _verb(record: AuditRecord) -> str:
    return record.verb if record.outcome is Outcome.DONE else f"{record.verb} ({record.outcome})"


def _resource(record: AuditRecord) -> str:
    name = record.name[:19] if record.name.startswith("sha256:") else record.name
    return f"{record.kind}/{name}" if name else record.kind
