"""`scale`, `set`, `rm` and `adopt`."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import CHANGE, SHARE, DryRun, NoWait, Timeout, WorkspaceOption, Yes, told

_SCALE = told(
    "Say how many replicas there may be.",
    "kaon scale greeter 3",
    "kaon scale greeter --min 1 --max 5",
    "kaon scale greeter --min 0 --max 5 --keep-alive 10m  # none without calls",
    "kaon scale greeter --min 2 --max 20 --floor 8@09:00-18:00",
    "kaon scale greeter 0 -y                              # off: calls fail",
    more="What is not named stays as it is. Between --min and --max the scaling law chooses; `kaon explain` says why.",
)
_SET = told(
    "Change any field of a deployment's spec; nothing is built.",
    "kaon set greeter objective.latency_s=0.2",
    "kaon set greeter template.resources.memory_bytes=512MiB",
    "kaon set greeter template.env.GREETING=Hi public=true --dry-run",
    more="Fields are named by their place, as `kaon get deployment NAME -o yaml` shows them. What replicas are made "
    "from, all below template, comes into force by a rollout; the rest at once.",
)
_RM = told(
    "Take a deployment, workspace, secret or key away.",
    "kaon rm greeter",
    "kaon rm deployment greeter -y",
    "kaon rm workspace team-a -y",
    "kaon rm artifact --unused",
    more="A deployment's replicas finish what is in flight first.",
)


_ADOPT = told(
    "Answer for a deployment whose owner's key has ended; for admins.",
    "kaon adopt greeter",
    more="Nothing is started anew. Your key must be allowed to call what the service uses.",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help=_SCALE, rich_help_panel=CHANGE)(scale)
    app.command("set", help=_SET, rich_help_panel=CHANGE)(put_fields)
    app.command(help=_ADOPT, rich_help_panel=SHARE)(adopt)
    app.command("rm", help=_RM, rich_help_panel=CHANGE)(remove)


def scale(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    replicas: Annotated[int | None, typer.Argument(min=0, max=1000, help="How many.", show_default=False)] = None,
    low: Annotated[int | None, typer.Option("--min", min=0, help="Replicas at least.")] = None,
    high: Annotated[int | None, typer.Option("--max", min=0, help="Replicas at most.")] = None,
    keep_alive: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the last replica stays without a call; or: learnt.")
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(metavar="N@HH:MM-HH:MM", help="At least N replicas then, UTC; repeatable; none: no floors."),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Say how many replicas there may be."""
    from kaon.cli import changing
    from kaon.cli.bounds import ReplicaBounds
    from kaon.cli.text import seconds

    wanted = ReplicaBounds(replicas, low, high, keep_alive, floor)
    wait_s = None if no_wait else seconds(timeout)
    changing.scale(name, wanted, workspace, yes=yes, dry_run=dry_run, wait_s=wait_s)


def put_fields(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    fields: Annotated[list[str], typer.Argument(metavar="PATH=VALUE", help="What to set.", show_default=False)],
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Change fields of a deployment's spec."""
    from kaon.cli import changing
    from kaon.cli.text import seconds

    wait_s = None if no_wait else seconds(timeout)
    changing.put_fields(name, fields, workspace, yes=yes, dry_run=dry_run, wait_s=wait_s)


def adopt(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    workspace: WorkspaceOption = None,
) -> None:
    """Answer for a deployment."""
    from kaon.cli import sharing

    sharing.adopt(name, workspace)


def remove(
    first: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="What to take away.", show_default=False)],
    second: Annotated[str, typer.Argument(hidden=True)] = "",
    unused: Annotated[bool, typer.Option("--unused", help="Every artifact that nothing is made of.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Take something away."""
    from kaon.cli import changing

    if unused:
        changing.remove_unused(first, workspace, yes=yes)
        return
    kind, name = (first, second) if second else ("deployment", first)
    changing.remove(kind, name, workspace, yes=yes, wait=not no_wait)
