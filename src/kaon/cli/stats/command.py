"""`kaon stats`: a deployment's figures as charts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kaon.cli.shared import charts
from kaon.cli.shared.live_page import redraw
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, document, page_columns, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import seconds
from kaon.cli.stats.page import page

app = verbs()
_SPAN_S = 120.0
"""The default: as long as there are figures of single seconds."""


@verb(app, "kaon stats greeter", "kaon stats greeter --since 1h", "kaon stats greeter -o json")
def stats(
    name: DeploymentArgument,
    since: Annotated[str, typer.Option(help="The period of the charts, like 1h; a week at most.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Print once.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show charts of a deployment's calls, latency and replicas.

    On a terminal they are redrawn every second until Ctrl-C; elsewhere, or with --once, they are printed once. Figures
    are kept by the second for two minutes, by 10 s for half an hour, by the minute for a week.
    """
    span_s = seconds(since) if since else _SPAN_S
    with opened(workspace) as remote:
        if output is Format.NAME:
            put(remote.deployment(name).name)
        elif output is not Format.TABLE:
            put(document(remote.stats(name, span_s).model_dump(mode="json"), output))
        elif once or not sys.stdout.isatty():
            put(charts.text(page(remote.stats(name, span_s), page_columns())))
        else:
            remote.deployment(name)
            redraw(lambda columns, lines: page(remote.stats(name, span_s), columns, lines))
