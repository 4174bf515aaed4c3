"""`kaon scale`: how many replicas a deployment may have."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.shared import spec_changes
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, DryRun, NoWait, Timeout, WorkspaceOption, Yes, verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.replica_bounds import ReplicaBounds, with_bounds
from kaon.cli.shared.rollout_wait import print_after_rollout
from kaon.cli.shared.text import seconds
from kaon.errors import InvalidInput

app = verbs()


@verb(
    app,
    "kaon scale greeter 3",
    "kaon scale greeter --min 1 --max 5",
    "kaon scale greeter --min 0 --max 5 --keep-alive 10m  # none without calls",
    "kaon scale greeter --min 2 --max 20 --floor 8@09:00-18:00",
    "kaon scale greeter 0 -y                              # off: calls fail",
)
def scale(
    name: DeploymentArgument,
    replicas: Annotated[int | None, typer.Argument(min=0, max=1000, help="How many.", show_default=False)] = None,
    low: Annotated[int | None, typer.Option("--min", min=0, help="Minimum number of replicas.")] = None,
    high: Annotated[int | None, typer.Option("--max", min=0, help="Maximum number of replicas.")] = None,
    keep_alive: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long the last replica stays without a call; or: learnt."),
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
    """Set how many replicas a deployment may have.

    Options that are not given stay unchanged. Between --min and --max the scaling law chooses; `kaon explain` shows
    why.
    """
    bounds = ReplicaBounds(replicas, low, high, keep_alive, floor)
    if not bounds.any:
        raise InvalidInput("No number of replicas is given.", hint="Give a number, or --min and --max.")
    with opened(workspace) as remote:
        current = remote.deployment(name)
        scaling = with_bounds(current.spec.scaling, bounds)
        change = spec_changes.summary(
            "deployment", name, current.spec, current.spec.model_copy(update={"scaling": scaling})
        )
        if dry_run:
            put(change)
            return
        note(change)
        spec_changes.ask_before_zero(name, current.spec.scaling, scaling, yes=yes)
        print_after_rollout(remote, remote.scale(current, scaling), None if no_wait else seconds(timeout))
