"""`kaon cloud`: where deployments are placed."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kaon.cli.get import print_resources
from kaon.cli.rm import delete
from kaon.cli.shared import tables
from kaon.cli.shared.options import OutputOption, Yes, command, group
from kaon.cli.shared.output import Format, put_list
from kaon.cli.shared.remote import opened

app = group("cloud", "List, cordon and delete clouds.")
_Name = Annotated[str, typer.Argument(help="The cloud's name.", show_default=False)]


@command(app, "kaon cloud list", name="list")
def list_clouds(output: OutputOption = Format.TABLE) -> None:
    """List clouds with their phase."""
    print_resources("clouds", output)


@command(app, "kaon cloud cordon paris")
def cordon(name: _Name) -> None:
    """Place no new deployments in a cloud.

    Its replicas stay and are scaled as before. `kaon cloud uncordon` ends it.
    """
    _set_cordoned(name, True)


@command(app, "kaon cloud uncordon paris")
def uncordon(name: _Name) -> None:
    """Place new deployments in a cloud again."""
    _set_cordoned(name, False)


@command(app, "kaon cloud rm paris -y", name="rm")
def remove(name: _Name, yes: Yes = False) -> None:
    """Delete a cloud that is lost, and the keys of its agent.

    Its deployments are placed in another cloud. A cloud whose agent still reports is not deleted.
    """
    delete("cloud", name, None, yes=yes)


def _set_cordoned(name: str, cordoned: bool) -> None:
    with opened() as remote:
        put_list([remote.set_cordoned(name, cordoned)], tables.of("cloud", time.time()), Format.TABLE)
