"""`secret`: values that replicas get and nobody else sees."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import SHARE, Output, WorkspaceOption, Yes, told
from kaon.cli.output import Format

_Name = Annotated[str, typer.Argument(help="The secret's name.", show_default=False)]
_SET = told(
    "Set a secret; its value is typed unseen, or comes on standard input.",
    "kaon secret set search-token",
    "kaon secret set search-token < token.txt",
    more="Replicas get it at their start; `kaon rollout restart` gives a new value to those that run.",
)
_LIST = told("List secrets, without their values.", "kaon secret list")
_RM = told("Delete a secret that no deployment gets.", "kaon secret rm search-token -y")


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Set, list and remove secrets.", no_args_is_help=True, rich_markup_mode=None)
    group.command("set", help=_SET)(set_secret)
    group.command("list", help=_LIST)(list_secrets)
    group.command("rm", help=_RM)(remove)
    app.add_typer(group, name="secret", rich_help_panel=SHARE)


def set_secret(name: _Name, workspace: WorkspaceOption = None) -> None:
    """Set a secret."""
    from kaon.cli import sharing

    sharing.set_secret(name, workspace)


def list_secrets(workspace: WorkspaceOption = None, output: Output = Format.TABLE) -> None:
    """List secrets."""
    from kaon.cli import looking

    looking.get("secrets", "", workspace, output)


def remove(name: _Name, yes: Yes = False, workspace: WorkspaceOption = None) -> None:
    """Delete a secret."""
    from kaon.cli import changing

    changing.remove("secret", name, workspace, yes=yes, wait=False)
