"""`kaon logs`: what a deployment's replicas wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated

import typer

from kaon import log
from kaon.cli.shared.broken_pipe import until_reader_ends
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, seconds
from kaon.drivers.port import LogLine
from kaon.types.log_level import LogLevel

app = verbs()
_SHOWN_APART = frozenset({"timestamp", "level", "logger", "event", "message", "msg", "request_id", "exception", "part"})
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line \d+, in ')
_FRAMEWORK = re.compile(
    r"/site-packages/(kaon|starlette|anyio|uvicorn)/|/src/kaon/(runtime|sdk)/"
    r"|/python3\.\d+/(asyncio/|concurrent/|threading\.py)|<frozen "
)
"""Files whose frames say nothing about a service."""


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
                put("\n".join(log_text(line, named=not replica)))
    if not count and not follow:
        note(f"No such lines of '{name}' are kept.")


def log_text(line: LogLine, *, named: bool = True) -> list[str]:
    """A line for people: time, replica, level, message, other fields, request id; then its traceback. Pure."""
    fields = log.fields_of(line.text)
    at = "-" if line.at is None else datetime.fromtimestamp(line.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    head = f"{at:<12}  {plain(line.replica)}  " if named else f"{at:<12}  "
    if fields is None:
        return [plain(f"{head}{'':<7}  {line.text}", keep="\t").rstrip()]
    parts = [str(next(fields[key] for key in ("event", "message", "msg") if isinstance(fields.get(key), str)))]
    parts += [f"{key}={value}" for key, value in fields.items() if key not in _SHOWN_APART]
    parts += [f"[{fields['request_id']}]"] if fields.get("request_id") else []
    texts = [f"{head}{str(fields.get('level', '')).upper():<7}  {'  '.join(parts)}"]
    exception = fields.get("exception")
    if isinstance(exception, str):
        texts += [f"    {text}" for text in own_frames(exception.splitlines())]
    return [plain(text, keep="\t").rstrip() for text in texts]


def own_frames(traceback: Sequence[str]) -> list[str]:
    """A traceback without frames of the framework, unless it has no others. Pure."""
    kept = list(_without_framework(traceback))
    return kept if any(_FRAME.match(line) for line in kept) else list(traceback)


def _without_framework(traceback: Sequence[str]) -> Iterator[str]:
    skipping = False
    for line in traceback:
        if found := _FRAME.match(line):
            skipping = bool(_FRAMEWORK.search(found["file"]))
        elif skipping and not line.startswith("    "):  # the source line and its marks are indented more than frames
            skipping = False
        if not skipping:
            yield line
