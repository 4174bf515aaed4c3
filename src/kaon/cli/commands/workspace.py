"""`workspace` and `whoami`: tenants, and the key in use."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import SHARE, TRUST, Output, Yes, told
from kaon.cli.output import Format

_Name = Annotated[str, typer.Argument(help="The workspace's name.", show_default=False)]
_CREATE = told(
    "Make a workspace.",
    "kaon workspace create team-a --description 'Team A'",
    more=f"What is in another workspace does not exist for its keys. {TRUST} Give tenants that do not trust each other "
    "machines of their own.",
)
_LIST = told("List the workspaces of your key.", "kaon workspace list")
_RM = told("Take an empty workspace away, with its keys and secrets.", "kaon workspace rm team-a -y")
_WHOAMI = told("Tell what the key in use may do.", "kaon whoami", "kaon whoami -o json")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make, list and remove workspaces.", no_args_is_help=True, rich_markup_mode=None)
    group.command(help=_CREATE)(create)
    group.command("list", help=_LIST)(list_workspaces)
    group.command("rm", help=_RM)(remove)
    app.add_typer(group, name="workspace", rich_help_panel=SHARE)
    app.command(help=_WHOAMI, rich_help_panel=SHARE)(whoami)


def create(name: _Name, description: Annotated[str, typer.Option(help="What it is for.")] = "") -> None:
    """Make a workspace."""
    from kaon.cli import sharing

    sharing.create_workspace(name, description)


def list_workspaces(output: Output = Format.TABLE) -> None:
    """List workspaces."""
    from kaon.cli import looking

    looking.get("workspaces", "", None, output)


def remove(name: _Name, yes: Yes = False) -> None:
    """Take a workspace away."""
    from kaon.cli import changing

    changing.remove("workspace", name, None, yes=yes, wait=False)


def whoami(output: Output = Format.TABLE) -> None:
    """Tell what the key in use may do."""
    from kaon.cli import sharing

    sharing.whoami(output)
