"""`kaon cloud`: where deployments are placed."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kaon.cli.describe import resource_page
from kaon.cli.get import print_resources
from kaon.cli.rm import delete
from kaon.cli.shared import tables
from kaon.cli.shared.options import OutputOption, Yes, group, verb
from kaon.cli.shared.output import Format, put, put_list
from kaon.cli.shared.remote import opened
from kaon.types.kinds import KINDS

app = group("cloud", "List, describe, cordon and delete clouds.")
_Name = Annotated[str, typer.Argument(help="The cloud's name.", show_default=False)]


@verb(app, "kaon cloud list", name="list")
def list_clouds(output: OutputOption = Format.TABLE) -> None:
    """List clouds with their phase, and how much of each is in use."""
    print_resources("clouds", output)


@verb(app, "kaon cloud describe local")
def describe(name: _Name) -> None:
    """Show a cloud: its phase, edge, capacity, health and events."""
    with opened() as remote:
        put(resource_page(remote, KINDS["cloud"], name))


@verb(app, "kaon cloud cordon paris")
def cordon(name: _Name) -> None:
    """Place no new deployments in a cloud.

    Its replicas stay and are scaled as before. `kaon cloud uncordon` ends it.
    """
    _set_cordoned(name, True)


@verb(app, "kaon cloud uncordon paris")
def uncordon(name: _Name) -> None:
    """Place new deployments in a cloud again."""
    _set_cordoned(name, False)


@verb(app, "kaon cloud rm paris -y", name="rm")
def remove(name: _Name, yes: Yes = False) -> None:
    """Delete a cloud that is lost, and the keys of its agent.

    Its deployments are placed in another cloud. A cloud whose agent still reports is not deleted.
    """
    delete("cloud", name, None, yes=yes)


def _set_cordoned(name: str, cordoned: bool) -> None:
    with opened() as remote:
        put_list([remote.set_cordoned(name, cordoned)], tables.of("cloud", time.time()), Format.TABLE)
