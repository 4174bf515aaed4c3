"""`kaon build`: an artifact from sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.shared import artifacts
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import Allow, Env, Include, OutputOption, TargetArgument, verb, verbs
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.text import pairs, plain, size

app = verbs()


@verb(
    app,
    "kaon build greeter.py:Greeter",
    "kaon build greeter.py:Greeter --out /tmp -o json",
    "kaon build greeter.py:Greeter --include models --allow pickle",
)
def build(
    target: TargetArgument,
    out: Annotated[Path, typer.Option(help="The folder for the artifact.")] = Path("dist"),
    env: Env = None,
    include: Include = None,
    allow: Allow = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Build an artifact: sources, locked requirements, and a description of the class.

    Equal sources give equal bytes. Files that .gitignore names are left out; secrets and pickles are refused.
    """
    built = artifacts.build(
        target, Path.cwd(), out, env=pairs(env or [], "--env"), include=include or (), allow=allow or ()
    )
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
        note(f"Deploy it: kaon deploy {target}")
