"""`kaon init`: a folder with a service, its test, its requirements and a kaon.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.init.files import OPTIONAL, ProjectTemplate, new_files, project_names
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.text import plain
from kaon.errors import Conflict

app = verbs()


@verb(app, "kaon init embedder", "kaon init assistant --template chat", "mkdir shop && cd shop && kaon init .")
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="NAME", help="The service's name and new folder; . is this folder.")
    ],
    template: Annotated[
        ProjectTemplate,
        typer.Option(help="plain: an endpoint in batches; chat: the OpenAI API; app: a web app beside an endpoint."),
    ] = ProjectTemplate.PLAIN,
) -> None:
    """Make a folder with a service, its test, its requirements and a kaon.yaml; all run as they are.

    Files that exist are never overwritten.
    """
    names = project_names(folder.absolute().resolve().name)
    files = new_files(names, template)
    existing = [name for name in files if (folder / name).exists()]
    if refused := [name for name in existing if name not in OPTIONAL]:
        raise Conflict(f"{plain(folder / refused[0])} exists.", hint="Choose another name: kaon init NAME")
    folder.mkdir(parents=True, exist_ok=True)
    for name in files.keys() - set(existing):
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(files[name])
    put("\n".join(plain(folder / name) for name in files if name not in existing))
    where = "" if folder.resolve() == Path.cwd().resolve() else f" in {plain(folder)}"
    note(
        f"Next{where}:\n"
        "  kaon dev       serve it on this machine; it restarts when a file changes\n"
        "  pytest         run its test\n"
        "  kaon deploy    deploy it; kaon up starts a platform on this machine"
    )
