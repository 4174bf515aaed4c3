"""`kaon events`: what happened."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from kaon.cli.get import print_changes
from kaon.cli.shared import tables
from kaon.cli.shared.options import OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, put_list
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import seconds
from kaon.types.kinds import KINDS, kind_named

app = verbs()


@verb(app, "kaon events", "kaon events greeter --limit 20", "kaon events -f --since 10m")
def events(
    name: Annotated[str, typer.Argument(help="Only events of the resource with this name.", show_default=False)] = "",
    kind: Annotated[str, typer.Option(help="Only events of resources of this kind.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of events.")] = 50,
    since: Annotated[str, typer.Option(help="Only events of the last period, like 10m.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Also print new events as they come.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List events; newest last."""
    query: dict[str, Any] = {
        "kind": kind_named(kind).name if kind else None,
        "since_s": seconds(since) if since else None,
        "limit": limit,
    }
    with opened(workspace) as remote:
        if follow:
            print_changes(remote, KINDS["event"], name, output, **query)
            return
        found = remote.resources(KINDS["event"], **query, name=name or None)
        put_list(found, tables.of("event", time.time()), output)
