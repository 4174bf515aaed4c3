"""`kaon rollout`: how a revision replaces another, and how to roll back."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Annotated

import typer

from kaon.api.views import DeploymentView
from kaon.cli.rollout.pages import SHADOW_TABLE, canary_page, shadow_page
from kaon.cli.shared import spec_changes, tables
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import DeploymentArgument, NoWait, OutputOption, Timeout, WorkspaceOption, Yes, group, verb
from kaon.cli.shared.output import Format, put, put_list, put_one, terminal_columns
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.rollout_wait import awaits_promotion, print_after_rollout, until_rolled_out
from kaon.cli.shared.text import plain, seconds, width
from kaon.errors import InvalidInput, NotFound, Unavailable
from kaon.types.deployment import RolloutState, Shadow

app = group("rollout", "Watch, pause and undo rollouts.")
_REDRAW_S = 0.5


@verb(app, "kaon rollout status greeter", "kaon rollout status greeter --no-wait -o json")
def status(
    name: DeploymentArgument,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Wait for the rollout to end and show its state; on a terminal, a canary's figures as they change."""
    wait_s = seconds(timeout)
    with opened(workspace) as remote:
        view = remote.deployment(name)
        if not no_wait:
            watched = _watch_canary(remote, name, wait_s) if sys.stdout.isatty() and output is Format.TABLE else None
            view = watched or until_rolled_out(remote, name, wait_s)
        if output is not Format.TABLE:
            put_one(view, tables.of("deployment", time.time()), output)
        elif view.status.rollout.canary:
            put(canary_page(view, time.time(), terminal_columns()))
        else:
            put_list([view], tables.of("deployment", time.time()), output)


def _watch_canary(remote: Remote, name: str, wait_s: float) -> DeploymentView | None:
    """Redraw a canary's page until it waits for a promotion; None without a canary, or when it has ended."""
    ends_at, lines = time.monotonic() + wait_s, 0
    while time.monotonic() < ends_at:
        try:
            view = remote.deployment(name)
        except Unavailable:  # the platform restarts; replicas keep running
            time.sleep(_REDRAW_S)
            continue
        if lines:
            sys.stdout.write(f"\x1b[{lines}A\x1b[J")
        if not view.status.rollout.canary or view.state is not RolloutState.PROGRESSING or view.spec.paused:
            return None
        if awaits_promotion(view):
            return view
        text = canary_page(view, time.time(), terminal_columns())
        put(text)
        columns = shutil.get_terminal_size().columns
        lines = sum(max(1, -(-width(line) // columns)) for line in text.split("\n"))
        time.sleep(_REDRAW_S)
    return None


@verb(app, "kaon rollout history greeter")
def history(name: DeploymentArgument, workspace: WorkspaceOption = None, output: OutputOption = Format.TABLE) -> None:
    """List a deployment's revisions, oldest first."""
    with opened(workspace) as remote:
        put_list(remote.revisions(name), tables.revisions(time.time()), output)


@verb(app, "kaon rollout undo greeter", "kaon rollout undo greeter --to 3 -y")
def undo(
    name: DeploymentArgument,
    to: Annotated[int | None, typer.Option(min=1, help="The revision; default: the previous one.")] = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Roll back to an earlier revision."""
    with opened(workspace) as remote:
        current = remote.deployment(name)
        target = next((r for r in remote.revisions(name) if r.number == to), None)
        if to is not None and target is None:
            raise NotFound(f"'{name}' has no revision {to}.", hint=f"See: kaon rollout history {plain(name)}")
        if target is not None:
            after = current.spec.model_copy(update={"template": target.spec.template})
            note(spec_changes.summary("deployment", name, current.spec, after))
        ask(f"Roll '{name}' back to {'the previous revision' if to is None else f'revision {to}'}?", yes=yes)
        print_after_rollout(remote, remote.undo(current, to), None if no_wait else seconds(timeout))


@verb(app, "kaon rollout pause greeter")
def pause(name: DeploymentArgument, workspace: WorkspaceOption = None) -> None:
    """Pause the rollout."""
    _roll(name, "pause", workspace, None)


@verb(app, "kaon rollout resume greeter")
def resume(
    name: DeploymentArgument, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None
) -> None:
    """Resume a paused rollout."""
    _roll(name, "resume", workspace, None if no_wait else seconds(timeout))


@verb(app, "kaon rollout restart greeter")
def restart(
    name: DeploymentArgument, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None
) -> None:
    """Restart every replica, one after the other."""
    _roll(name, "restart", workspace, None if no_wait else seconds(timeout))


@verb(app, "kaon rollout promote greeter")
def promote(
    name: DeploymentArgument, no_wait: NoWait = False, timeout: Timeout = "10m", workspace: WorkspaceOption = None
) -> None:
    """Make a canary serve all calls without its further steps, or start to roll out a shadow."""
    _roll(name, "promote", workspace, None if no_wait else seconds(timeout))


def _roll(name: str, verb: str, workspace: str | None, wait_s: float | None) -> None:
    with opened(workspace) as remote:
        print_after_rollout(remote, remote.roll(remote.deployment(name), verb), wait_s)


@verb(app, "kaon rollout shadow greeter --revision 3 --percent 10", "kaon rollout shadow greeter --off")
def shadow(
    name: DeploymentArgument,
    revision: Annotated[int | None, typer.Option(min=1, help="The revision; see kaon rollout history.")] = None,
    percent: Annotated[float, typer.Option(min=0.01, max=100, help="Share of calls that are copied.")] = 10.0,
    off: Annotated[bool, typer.Option("--off", help="Stop copying calls.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Send copies of calls to a revision and compare its answers; callers never get them.

    A shadow's side effects are real: do not shadow a service that writes.
    """
    if off == (revision is not None):
        raise InvalidInput("No revision is given.", hint=f"kaon rollout shadow {plain(name)} --revision N, or --off")
    with opened(workspace) as remote:
        current = remote.deployment(name)
        if off:
            remote.unshadow(current)
            note(f"Calls of {name} are not copied any more.")
            return
        remote.shadow(current, Shadow(revision=revision, percent=percent))
        note(f"Revision {revision} gets copies of {percent:g} % of the calls of {name}: kaon rollout diff {name}")


@verb(app, "kaon rollout diff greeter")
def diff(name: DeploymentArgument, workspace: WorkspaceOption = None, output: OutputOption = Format.TABLE) -> None:
    """Show how a shadow's answers differ from those that callers got."""
    with opened(workspace) as remote:
        report = remote.shadow_report(name)
    if output is not Format.TABLE:
        put_one(report, SHADOW_TABLE, output)
    elif not report.revision:
        note(f"{name} has no shadow. Start one: kaon rollout shadow {name} --revision N")
    else:
        put(shadow_page(name, report, time.time(), terminal_columns()))
