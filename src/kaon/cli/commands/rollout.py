"""`rollout`: how a revision takes over, and how to go back."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import CHANGE, InWorkspace, NoWait, Output, Timeout, Yes, told
from kaon.cli.output import Format

_Name = Annotated[str, typer.Argument(help="The deployment.", show_default=False)]
_STATUS = told("Wait for the rollout to end and tell how it is.", "kaon rollout status greeter")
_HISTORY = told("List a deployment's revisions, oldest first.", "kaon rollout history greeter")
_UNDO = told("Go back to an earlier revision.", "kaon rollout undo greeter", "kaon rollout undo greeter --to 3 -y")
_PAUSE = told("Hold the rollout where it is.", "kaon rollout pause greeter")
_RESUME = told("Let a held rollout go on.", "kaon rollout resume greeter")
_RESTART = told("Start every replica anew, one after the other.", "kaon rollout restart greeter")


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="See, hold and undo rollouts.", no_args_is_help=True, rich_markup_mode=None)
    group.command(help=_STATUS)(status)
    group.command(help=_HISTORY)(history)
    group.command(help=_UNDO)(undo)
    group.command(help=_PAUSE)(pause)
    group.command(help=_RESUME)(resume)
    group.command(help=_RESTART)(restart)
    app.add_typer(group, name="rollout", rich_help_panel=CHANGE)


def status(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: InWorkspace = None) -> None:
    """Wait for the rollout to end and tell how it is."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.rollout_status(name, workspace, None if no_wait else seconds(timeout))


def history(name: _Name, workspace: InWorkspace = None, output: Output = Format.TABLE) -> None:
    """List a deployment's revisions."""
    from kaon.cli import looking

    looking.get("revisions", name, workspace, output)


def undo(
    name: _Name,
    to: Annotated[int | None, typer.Option(min=1, help="The revision; the one before unless given.")] = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: InWorkspace = None,
) -> None:
    """Go back to an earlier revision."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.undo(name, to, workspace, yes=yes, wait_s=None if no_wait else seconds(timeout))


def pause(name: _Name, workspace: InWorkspace = None) -> None:
    """Hold the rollout where it is."""
    from kaon.cli import changing

    changing.roll(name, "pause", workspace, None)


def resume(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: InWorkspace = None) -> None:
    """Let a held rollout go on."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.roll(name, "resume", workspace, None if no_wait else seconds(timeout))


def restart(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: InWorkspace = None) -> None:
    """Start every replica anew."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.roll(name, "restart", workspace, None if no_wait else seconds(timeout))
