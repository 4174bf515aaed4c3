"""`call`: an endpoint of a deployment, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from kaon.cli.options import SERVE, WorkspaceOption, told
from kaon.cli.output import put

_CALL = told(
    "Call an endpoint and print its answer.",
    "kaon call greeter greet name=Ada",
    "kaon call vision describe picture=@cat.png language=en",
    'kaon call greeter greet \'names:=["Ada", "Bob"]\'',
    "kaon call counter count to=5 --stream",
    "kaon call painter paint text=sunset -o sunset.png",
    more="NAME=VALUE is read by what the endpoint takes: text stays text. NAME=@FILE takes what is in a file, @- what "
    "comes in; NAME:=JSON says a value as JSON. A name that is given several times is a list.",
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
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", help="A header as 'NAME: VALUE'.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Keep the answer in this file, as it is; - is standard output.")
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Print each item of a stream as it comes.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, like 30s.")] = "60s",
    workspace: WorkspaceOption = None,
) -> None:
    """Call an endpoint."""
    from kaon.cli import calling
    from kaon.cli.text import seconds

    asked = calling.Asked(arguments or [], body, header or [])
    with calling.answered(name, endpoint, asked, workspace, seconds(timeout)) as answer:
        items = answer if isinstance(answer, Iterator) else iter([answer])
        if output:
            calling.keep(items, output)
        elif stream or items is not answer:
            for item in items:
                put(calling.said(item))
        else:
            whole = list(items)
            put(calling.said(b"".join(whole) if whole and isinstance(whole[0], bytes) else whole))
