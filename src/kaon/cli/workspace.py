"""`kaon workspace`: tenants."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kaon.api.views import WorkspaceRequest
from kaon.cli.get import print_resources
from kaon.cli.rm import delete
from kaon.cli.shared import tables
from kaon.cli.shared.options import TRUST, OutputOption, Yes, group, verb
from kaon.cli.shared.output import Format, put_one
from kaon.cli.shared.remote import opened
from kaon.cli.shared.spec_changes import request_of

app = group("workspace", "Create, list and delete workspaces.")
_Name = Annotated[str, typer.Argument(help="The workspace's name.", show_default=False)]


@verb(
    app,
    "kaon workspace create team-a --description 'Team A'",
    more=f"Keys of one workspace cannot see another. {TRUST} Give tenants that do not trust each other machines of "
    "their own.",
)
def create(name: _Name, description: Annotated[str, typer.Option(help="What it is for.")] = "") -> None:
    """Create a workspace."""
    with opened() as remote:
        created = remote.create_workspace(request_of(WorkspaceRequest, name=name, description=description))
    put_one(created, tables.of("workspace", time.time()), Format.TABLE)


@verb(app, "kaon workspace list", name="list")
def list_workspaces(output: OutputOption = Format.TABLE) -> None:
    """List the workspaces of your key."""
    print_resources("workspaces", output)


@verb(app, "kaon workspace rm team-a -y", name="rm")
def remove(name: _Name, yes: Yes = False) -> None:
    """Delete an empty workspace, with its keys and secrets."""
    delete("workspace", name, None, yes=yes)
