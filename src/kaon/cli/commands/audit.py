"""`audit`: who changed what, and what was refused."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import LOOK, Output, WorkspaceOption, told
from kaon.cli.output import Format

_AUDIT = told(
    "List who changed what, from where, and what was refused; for admins. The newest last.",
    "kaon audit",
    "kaon audit greeter --since 7d",
    "kaon audit --actor ci --verb put",
    "kaon audit --everywhere --kind key -o json",
    more="Every change is recorded in the transaction that makes it, with hashes of what was there before and after. "
    "Values of secrets and keys are never in it. KAON_AUDIT_RECORDS and KAON_AUDIT_DAYS say how much is kept.",
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=_AUDIT, rich_help_panel=LOOK)(audit)


def audit(
    name: Annotated[str, typer.Argument(help="Only about the thing of this name.", show_default=False)] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Only so recent ones, like 1h or 7d.")] = "",
    actor: Annotated[str, typer.Option(help="Only of this key or controller.")] = "",
    kind: Annotated[str, typer.Option(help="Only about things of this kind.")] = "",
    verb: Annotated[str, typer.Option(help="Only this: create, put, delete, scale, ...")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="In every workspace, and of none.")] = False,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """List who changed what."""
    from kaon.cli import auditing
    from kaon.cli.text import seconds

    wanted: dict[str, str | int] = {"name": name, "actor": actor, "kind": kind, "verb": verb, "limit": limit}
    since_s = seconds(since) if since else None
    auditing.show(wanted, since_s, workspace, output, everywhere=everywhere)
