"""`call`: an endpoint of a deployment, from the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import SERVE, InWorkspace, told
from kaon.cli.output import put

_CALL = told(
    "Call an endpoint and print its answer.",
    "kaon call greeter greet name=Ada",
    'kaon call greeter greet --json \'{"names": ["Ada"]}\'',
    "kaon call counter count to=5 --stream",
    more="Values are read as JSON where they are JSON, and as text where they are not.",
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=_CALL, rich_help_panel=SERVE)(call)


def call(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its parameters.", show_default=False)
    ] = None,
    body: Annotated[
        str, typer.Option("--json", help="All parameters as one JSON object; - reads standard input.")
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Print each item of a stream as it comes.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, like 30s.")] = "60s",
    workspace: InWorkspace = None,
) -> None:
    """Call an endpoint."""
    from kaon.cli import calling
    from kaon.cli.text import seconds

    given = calling.arguments(arguments or [], body)
    for text in calling.answers(name, endpoint, given, workspace, seconds(timeout), stream=stream):
        put(text)
