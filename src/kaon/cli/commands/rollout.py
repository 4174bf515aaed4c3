"""`rollout`: how a revision takes over, and how to go back."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import CHANGE, NoWait, Output, Timeout, WorkspaceOption, Yes, told
from kaon.cli.output import Format

_Name = Annotated[str, typer.Argument(help="The deployment.", show_default=False)]
_STATUS = told(
    "Wait for the rollout to end and tell how it is; a canary's figures live, on a terminal.",
    "kaon rollout status greeter",
    "kaon rollout status greeter --no-wait -o json",
)
_PROMOTE = told(
    "Let a canary take over without its further steps, or a shadow begin to.",
    "kaon rollout promote greeter",
)
_SHADOW = told(
    "Let a revision get copies of calls, to compare its answers; it serves nobody.",
    "kaon rollout shadow greeter --revision 3 --percent 10",
    "kaon rollout shadow greeter --off",
    more="What the revision does besides answering, it does: do not shadow what writes.",
)
_DIFF = told("Show how a shadow's answers differ from those that callers got.", "kaon rollout diff greeter")
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
    group.command(help=_PROMOTE)(promote)
    group.command(help=_SHADOW)(shadow)
    group.command(help=_DIFF)(diff)
    app.add_typer(group, name="rollout", rich_help_panel=CHANGE)


def status(
    name: _Name,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Wait for the rollout to end and tell how it is."""
    from kaon.cli import rollouts
    from kaon.cli.text import seconds

    rollouts.status(name, workspace, None if no_wait else seconds(timeout), output)


def history(name: _Name, workspace: WorkspaceOption = None, output: Output = Format.TABLE) -> None:
    """List a deployment's revisions."""
    from kaon.cli import looking

    looking.history(name, workspace, output)


def undo(
    name: _Name,
    to: Annotated[int | None, typer.Option(min=1, help="The revision; the one before unless given.")] = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Go back to an earlier revision."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.undo(name, to, workspace, yes=yes, wait_s=None if no_wait else seconds(timeout))


def pause(name: _Name, workspace: WorkspaceOption = None) -> None:
    """Hold the rollout where it is."""
    from kaon.cli import changing

    changing.roll(name, "pause", workspace, None)


def resume(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None) -> None:
    """Let a held rollout go on."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.roll(name, "resume", workspace, None if no_wait else seconds(timeout))


def restart(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None) -> None:
    """Start every replica anew."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    changing.roll(name, "restart", workspace, None if no_wait else seconds(timeout))


def promote(name: _Name, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None) -> None:
    """Let what is on trial take over."""
    from kaon.cli import rollouts
    from kaon.cli.text import seconds

    rollouts.promote(name, workspace, None if no_wait else seconds(timeout))


def shadow(
    name: _Name,
    revision: Annotated[int | None, typer.Option(min=1, help="The revision, of the history.")] = None,
    percent: Annotated[float, typer.Option(min=0.01, max=100, help="Share of calls that are copied.")] = 10.0,
    off: Annotated[bool, typer.Option("--off", help="Copy no calls any more.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Let a revision get copies of calls."""
    from kaon.cli import rollouts

    rollouts.shadow(name, revision, percent, off, workspace)


def diff(name: _Name, workspace: WorkspaceOption = None, output: Output = Format.TABLE) -> None:
    """Show how a shadow's answers differ."""
    from kaon.cli import rollouts

    rollouts.diff(name, workspace, output)
