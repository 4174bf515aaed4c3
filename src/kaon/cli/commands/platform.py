"""`up`, `down`, `status`, `doctor` and `open`: the platform on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import PLATFORM, Output, told
from kaon.cli.output import Format

_UP = told(
    "Start the platform on this machine, or find it running.",
    "kaon up",
    "KAON_PORT=9090 KAON_HOME=/srv/kaon kaon up",
    "KAON_TRUSTED_PROXIES=10.0.0.0/8 kaon up  # behind a load balancer",
)
_DOWN = told("Stop the platform on this machine, with all that it runs.", "kaon down")
_STATUS = told("Tell what runs on this machine, and whether it is well.", "kaon status", "kaon status -o json")
_DOCTOR = told(
    "Check this machine and the platform on it; each finding comes with what to do.",
    "kaon doctor",
    "kaon doctor -o json",
)
_OPEN = told("Open a deployment's page in a browser.", "kaon open greeter")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help=_UP, rich_help_panel=PLATFORM)(up)
    app.command(help=_DOWN, rich_help_panel=PLATFORM)(down)
    app.command(help=_STATUS, rich_help_panel=PLATFORM)(status)
    app.command(help=_DOCTOR, rich_help_panel=PLATFORM)(doctor)
    app.command("open", help=_OPEN, rich_help_panel=PLATFORM)(open_page)


def up() -> None:
    """Start the platform."""
    from kaon.cli import machine

    machine.up()


def down() -> None:
    """Stop the platform."""
    from kaon.cli import machine

    machine.down()


def status(output: Output = Format.TABLE) -> None:
    """Tell what runs."""
    from kaon.cli import machine

    machine.status(output)


def doctor(output: Output = Format.TABLE) -> None:
    """Check this machine."""
    from kaon.cli import doctor as checks

    raise typer.Exit(checks.run(output))


def open_page(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    workspace: Annotated[str | None, typer.Option("-w", "--workspace", help="Its workspace.")] = None,
) -> None:
    """Open a page."""
    from kaon.cli import machine

    machine.open_page(name, workspace)
