"""`config`: which platform, key and workspace the command line works with."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kaon.cli.options import PLATFORM, Output, told
from kaon.cli.output import Format

_SHOW = told("Show the context in use and where things are.", "kaon config show", "kaon config show -o json")
_LIST = told("List contexts; a star marks the one in use.", "kaon config list")
_USE = told("Work in a context from now on; a new name makes one.", "kaon config use production")
_SET = told(
    "Change a value of the context in use.",
    "kaon config set workspace team-a",
    "kaon config set url https://ai.example.com",
    "kaon config set key-file ~/.keys/production",
)
_RM = told("Forget a context.", "kaon config rm production")
_Name = Annotated[str, typer.Argument(help="The context.", show_default=False)]


class _Field(StrEnum):
    URL = "url"
    KEY_FILE = "key-file"
    WORKSPACE = "workspace"


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Choose platform, key and workspace.", no_args_is_help=True, rich_markup_mode=None)
    group.command(help=_SHOW)(show)
    group.command("list", help=_LIST)(list_contexts)
    group.command(help=_USE)(use)
    group.command("set", help=_SET)(set_value)
    group.command("rm", help=_RM)(remove)
    app.add_typer(group, name="config", rich_help_panel=PLATFORM)


def show(output: Output = Format.TABLE) -> None:
    """Show the context in use."""
    from kaon.cli import configuring

    configuring.show(output)


def list_contexts(output: Output = Format.TABLE) -> None:
    """List contexts."""
    from kaon.cli import configuring

    configuring.list_contexts(output)


def use(name: _Name) -> None:
    """Work in a context from now on."""
    from kaon.cli import configuring

    configuring.use(name)


def set_value(
    field: Annotated[_Field, typer.Argument(help="What to change.", show_default=False)],
    value: Annotated[str, typer.Argument(help="The new value; '' for none.", show_default=False)],
) -> None:
    """Change a value of the context in use."""
    from kaon.cli import configuring

    configuring.set_value(field.value.replace("-", "_"), value)


def remove(name: _Name) -> None:
    """Forget a context."""
    from kaon.cli import configuring

    configuring.remove(name)
