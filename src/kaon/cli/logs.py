"""`kaon logs`: what a deployment's replicas wrote."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from kaon.cli.shared.broken_pipe import until_reader_ends
from kaon.cli.shared.log_lines import log_text
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, put, terminal_columns
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import seconds
from kaon.types.log_level import LogLevel

app = verbs()


@verb(
    app,
    "kaon logs greeter",
    "kaon logs greeter -f --level warning",
    "kaon logs greeter --revision 2 --since 10m",
    "kaon logs greeter --past --grep 4f2a9c",
    "kaon logs greeter -o json | jq .text",
)
def logs(
    name: DeploymentArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Also print new lines as they come.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="The last such lines of each replica.")] = 100,
    since: Annotated[str, typer.Option(help="Only lines of the last period, like 10m.")] = "",
    level: Annotated[LogLevel | None, typer.Option(help="Only lines of this level or a higher one.")] = None,
    grep: Annotated[str, typer.Option(help="Only lines that contain this text.")] = "",
    revision: Annotated[int | None, typer.Option(min=1, help="Only replicas of it, also ended ones.")] = None,
    replica: Annotated[str, typer.Option(help="Only this replica, by name or id, also when it has ended.")] = "",
    past: Annotated[bool, typer.Option("--past", help="Also replicas that ended in the last week.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print the log lines of a deployment's replicas: time, level, message, request id.

    --since, --level and --grep search all lines that are kept. Prints have the time of the line before. Tracebacks
    are without frames of the framework; -o json has the lines as they were written.
    """
    query = {
        "follow": follow,
        "tail": tail,
        "since_s": seconds(since) if since else None,
        "level": level,
        "grep": grep or None,
        "revision": revision,
        "replica": replica or None,
        "past": (past or bool(revision or replica)) and not follow,
    }
    count = 0
    with opened(workspace) as remote, until_reader_ends() if follow else nullcontext():
        for line in remote.logs(name, **query):
            count += 1
            if output is Format.JSON:
                put(line.model_dump_json())
            else:
                put("\n".join(log_text(line, named=not replica, columns=terminal_columns())))
    if not count and not follow:
        note(f"No such lines of '{name}' are kept.")
