"""`cloud`: where deployments are placed."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import SHARE, Output, Yes, told
from kaon.cli.output import Format

_Name = Annotated[str, typer.Argument(help="The cloud's name.", show_default=False)]
_LIST = told("List clouds: whether they can be relied on, and how much of them is in use.", "kaon cloud list")
_DESCRIBE = told("Show a cloud: its phase, edge, capacity, health and events.", "kaon cloud describe local")
_CORDON = told(
    "Place no new deployments in a cloud.",
    "kaon cloud cordon paris",
    more="What runs there stays and is scaled as before. `kaon cloud uncordon` ends it.",
)
_UNCORDON = told("Place new deployments in a cloud again.", "kaon cloud uncordon paris")
_RM = told(
    "Delete a cloud that is lost, and the keys of its agent.",
    "kaon cloud rm paris -y",
    more="Its deployments are placed in another cloud. A cloud whose agent still reports is not deleted.",
)


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="List, describe, cordon and delete clouds.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list", help=_LIST)(list_clouds)
    group.command(help=_DESCRIBE)(describe)
    group.command(help=_CORDON)(cordon)
    group.command(help=_UNCORDON)(uncordon)
    group.command("rm", help=_RM)(remove)
    app.add_typer(group, name="cloud", rich_help_panel=SHARE)


def list_clouds(output: Output = Format.TABLE) -> None:
    """List clouds."""
    from kaon.cli import looking

    looking.get("clouds", "", None, output)


def describe(name: _Name) -> None:
    """Describe a cloud."""
    from kaon.cli import looking

    looking.describe("cloud", name, None)


def cordon(name: _Name) -> None:
    """Take a cloud out of placement."""
    from kaon.cli import changing

    changing.set_cordoned(name, cordoned=True)


def uncordon(name: _Name) -> None:
    """Take a cloud back into placement."""
    from kaon.cli import changing

    changing.set_cordoned(name, cordoned=False)


def remove(name: _Name, yes: Yes = False) -> None:
    """Delete a cloud."""
    from kaon.cli import changing

    changing.remove("cloud", name, None, yes=yes, wait=False)
