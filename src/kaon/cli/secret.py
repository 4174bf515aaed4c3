"""`kaon secret`: values that only replicas get."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from kaon.cli.get import print_resources
from kaon.cli.rm import delete
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import OutputOption, WorkspaceOption, Yes, group, verb
from kaon.cli.shared.output import Format
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput

app = group("secret", "Set, list and delete secrets.")
_Name = Annotated[str, typer.Argument(help="The secret's name.", show_default=False)]


@verb(app, "kaon secret set search-token", "kaon secret set search-token < token.txt", name="set")
def set_secret(name: _Name, workspace: WorkspaceOption = None) -> None:
    """Set a secret; its value is typed hidden, or read from standard input.

    Replicas get it when they start; `kaon rollout restart` gives a new value to those that run.
    """
    if sys.stdin.isatty():
        value = getpass.getpass(f"Value of {plain(name)}: ", stream=sys.stderr)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise InvalidInput("The value is empty.", hint="Type it, or pipe it in: kaon secret set NAME < FILE")
    with opened(workspace) as remote:
        stored = remote.put_secret(name, value)
    note(f"Secret '{name}' is set.")
    for deployment in stored.used_by:
        note(f"Give the value to running replicas: kaon rollout restart {deployment}")


@verb(app, "kaon secret list", name="list")
def list_secrets(workspace: WorkspaceOption = None, output: OutputOption = Format.TABLE) -> None:
    """List secrets, without their values."""
    print_resources("secrets", output, workspace)


@verb(app, "kaon secret rm search-token -y", name="rm")
def remove(name: _Name, yes: Yes = False, workspace: WorkspaceOption = None) -> None:
    """Delete a secret that no deployment uses."""
    delete("secret", name, workspace, yes=yes)
