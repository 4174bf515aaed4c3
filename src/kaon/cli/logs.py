"""`kaon logs`: what a deployment's replicas wrote."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from kaon import log
from kaon.cli.shared.broken_pipe import until_reader_ends
from kaon.cli.shared.options import Deployment, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, seconds

app = verbs()


@verb(
    app,
    "kaon logs greeter",
    "kaon logs greeter -f --grep ERROR",
    "kaon logs greeter --since 10m --replica greeter-2-0",
)
def logs(
    name: Deployment,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Also print new lines as they come.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="The last lines of each replica.")] = 100,
    since: Annotated[str, typer.Option(help="Only lines of the last period, like 10m.")] = "",
    replica: Annotated[str, typer.Option(help="Only this replica, by name or id.")] = "",
    grep: Annotated[str, typer.Option(help="Only lines that contain this text.")] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print the log lines of a deployment's replicas."""
    query = {
        "follow": follow,
        "tail": tail,
        "since_s": seconds(since) if since else None,
        "replica": replica or None,
        "grep": grep or None,
    }
    with opened(workspace) as remote, until_reader_ends() if follow else nullcontext():
        for line in remote.logs(name, **query):
            if output is Format.JSON:
                put(line.model_dump_json())
                continue
            prefix = "" if replica else f"{plain(line.replica)}  "
            for text in log.spelled(line.text):
                put(f"{prefix}{plain(text, keep=chr(9))}" or " ")
