"""`dev` and `build`: what needs no platform."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.options import SERVE, Allow, Include, Output, told
from kaon.cli.output import Format, document, put

_DEV = told(
    "Serve a class here, without keys, and start it anew when a file changes.",
    "kaon dev greeter.py:Greeter",
    "kaon dev greeter.py:Greeter --port 9000 --env GREETING=Hi",
)
_BUILD = told(
    "Build an artifact: sources, locked requirements, and what the class is.",
    "kaon build greeter.py:Greeter",
    "kaon build greeter.py:Greeter --out /tmp -o json",
    "kaon build greeter.py:Greeter --include models --allow pickle",
    more="Equal sources give equal bytes. What .gitignore names is left out; secrets and pickles are refused.",
)
_Pairs = Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="A setting; may be repeated.")]
_Target = Annotated[str, typer.Argument(metavar="FILE.py:CLASS", help="The class to take.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help=_DEV, rich_help_panel=SERVE)(dev)
    app.command(help=_BUILD, rich_help_panel=SERVE)(build)


def dev(
    target: _Target,
    port: Annotated[int, typer.Option(help="The port, on this machine only.", min=1, max=65535)] = 8000,
    env: _Pairs = None,
    reload: Annotated[bool, typer.Option(help="Start anew when a file changes.")] = True,
    allow: Allow = None,
) -> None:
    """Serve a class here."""
    from kaon.cli import development
    from kaon.cli.text import pairs

    code = development.serve(target, Path.cwd(), port, pairs(env or [], "--env"), reload=reload, allow=allow or ())
    raise typer.Exit(code)


def build(
    target: _Target,
    out: Annotated[Path, typer.Option(help="The folder for the artifact.")] = Path("dist"),
    env: _Pairs = None,
    include: Include = None,
    allow: Allow = None,
    output: Output = Format.TABLE,
) -> None:
    """Build an artifact."""
    from kaon.cli import deploying
    from kaon.cli.notes import note
    from kaon.cli.text import pairs, plain, size

    variables = pairs(env or [], "--env")
    built = deploying.built(target, Path.cwd(), out, env=variables, include=include or (), allow=allow or ())
    service = built.manifest.service
    if output in (Format.JSON, Format.YAML):
        members = {"path": str(built.path), "digest": built.digest, "size_bytes": built.size_bytes}
        put(document(members | {"manifest": built.manifest.model_dump(mode="json")}, output))
        return
    put(plain(built.digest if output is Format.NAME else built.path))
    note(
        f"{service.name}: {len(service.endpoints)} endpoints, {len(built.manifest.files)} files, "
        f"{size(built.size_bytes)}, {built.digest}"
    )
    if sys.stderr.isatty():
        note(f"Deploy it with: kaon deploy {target}")
