"""`simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.options import LOOK, Output, WorkspaceOption, told
from kaon.cli.output import Format

_SIMULATE = told(
    "What would have happened: replay traffic through the scaling law.",
    "kaon simulate greeter --set scaling.max=5",
    "kaon simulate greeter --trace day.csv",
    "kaon simulate greeter --trace day.csv --set scaling.max=5 --svg day.svg",
    "kaon simulate greeter --trace day.csv --set scaling.max=4",
    "kaon simulate greeter --trace day.csv --set service.call_s=0.08 -o json",
    more="It runs here and changes nothing. Without --trace it replays the last 6 h of its own traffic. FILE is CSV "
    "that begins with 'second,count', 't_s,rate_rps' or 'timestamp,value'. What is set is shown beside what would "
    "happen as it is.",
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=_SIMULATE, rich_help_panel=LOOK)(simulate)


def simulate(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    trace: Annotated[Path | None, typer.Option("--trace", metavar="FILE", help="Calls per second, as CSV.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="Another value of scaling., objective. or service. Repeat it."),
    ] = None,
    start: Annotated[str, typer.Option("--from", help="Begin so far into the traffic, like 2h.")] = "0s",
    span: Annotated[str, typer.Option("--for", help="Replay so much of it, like 30m; all unless given.")] = "",
    times: Annotated[float, typer.Option("--times", min=0.0, help="With so many times the calls.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another chance.")] = 0,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw a picture there.")] = None,
    output: Output = Format.TABLE,
    workspace: WorkspaceOption = None,
) -> None:
    """What would have happened."""
    from kaon.cli import simulating
    from kaon.cli.text import seconds

    simulating.simulate(
        name,
        trace,
        changes or [],
        from_s=seconds(start),
        span_s=seconds(span) if span else None,
        times=times,
        seed=seed,
        svg=svg,
        workspace=workspace,
        form=output,
    )
