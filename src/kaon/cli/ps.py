"""`kaon ps`: deployments and their replicas."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kaon.cli.shared import tables
from kaon.cli.shared.options import OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, put, put_list, table_text, terminal_columns
from kaon.cli.shared.remote import opened

app = verbs()


@verb(app, "kaon ps", "kaon ps greeter -o json")
def ps(
    name: Annotated[str, typer.Argument(help="Only this deployment.", show_default=False)] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List deployments and their replicas, with phase and reason.

    With -o json, yaml or name: the replicas only.
    """
    now = time.time()
    with opened(workspace) as remote:
        deployments = [remote.deployment(name)] if name else remote.deployments()
        replicas = remote.replicas(name or None)
    if output is not Format.TABLE:
        put_list(replicas, tables.of("replica", now), output)
        return
    put_list(deployments, tables.of("deployment", now), output)
    if replicas:
        put("\n" + table_text(replicas, tables.of("replica", now), output, terminal_columns()))
