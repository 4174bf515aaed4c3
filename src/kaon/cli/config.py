"""`kaon config`: which platform, key and workspace the command line uses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kaon.cli.shared.notes import note
from kaon.cli.shared.options import OutputOption, group, verb
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.text import plain, table
from kaon.client import contexts
from kaon.client.contexts import LOCAL, Context
from kaon.errors import InvalidInput, NotFound
from kaon.settings import Settings

app = group("config", "Choose platform, key and workspace.")
_Name = Annotated[str, typer.Argument(help="The context.", show_default=False)]


class _Field(StrEnum):
    URL = "url"
    KEY_FILE = "key-file"
    WORKSPACE = "workspace"


@verb(app, "kaon config show", "kaon config show -o json")
def show(output: OutputOption = Format.TABLE) -> None:
    """Show the context in use, its URL, files and folders."""
    settings, context, name = Settings(), contexts.in_use(), contexts.name_in_use()
    facts = {
        "context": name,
        "url": context.url or f"this machine ({settings.api_socket})",
        "key_file": context.key_file or ("" if context.url else str(settings.admin_key_file)),
        "workspace": context.workspace,
        "home": str(settings.home),
        "edge": settings.url,
    }
    if output is Format.NAME:
        put(plain(name))
    elif output is Format.TABLE:
        put("\n".join(f"{label + ':':<11}{plain(value) or '-'}" for label, value in facts.items()))
    else:
        put(document(facts, output))


@verb(app, "kaon config list", name="list")
def list_contexts(output: OutputOption = Format.TABLE) -> None:
    """List contexts; a star marks the one in use."""
    stored, current = contexts.read(), contexts.name_in_use()
    every = {LOCAL: Context()} | stored.contexts
    if output is Format.NAME:
        put("\n".join(every))
    elif output is Format.TABLE:
        rows = [
            ("*" if name == current else "", name, context.url or "this machine", context.workspace)
            for name, context in every.items()
        ]
        put(table(("", "name", "url", "workspace"), rows))
    else:
        put(document({name: context.model_dump(mode="json") for name, context in every.items()}, output))


@verb(app, "kaon config use production")
def use(name: _Name) -> None:
    """Switch to a context; a new name creates one."""
    stored = contexts.read()
    is_new = name not in stored.contexts and name != LOCAL
    contexts.write(contexts.valid(stored, stored.contexts | ({name: Context()} if is_new else {}), name))
    note(f"Context '{name}' is in use." + (" Set its platform: kaon config set url URL" if is_new else ""))


@verb(
    app,
    "kaon config set workspace team-a",
    "kaon config set url https://ai.example.com",
    "kaon config set key-file ~/.keys/production",
    name="set",
)
def set_value(
    field: Annotated[_Field, typer.Argument(help="What to change.", show_default=False)],
    value: Annotated[str, typer.Argument(help="The new value; '' for none.", show_default=False)],
) -> None:
    """Change a value of the context in use."""
    stored, name = contexts.read(), contexts.name_in_use()
    context = contexts.changed(stored.find(name), {field.value.replace("-", "_"): value})
    contexts.write(contexts.valid(stored, stored.contexts | {name: context}, stored.current))
    note(f"{field.value} of '{name}' is now {value or 'unset'}.")


@verb(app, "kaon config rm production", name="rm")
def remove(name: _Name) -> None:
    """Delete a context."""
    stored = contexts.read()
    if name not in stored.contexts:
        raise NotFound(f"Context '{plain(name)}' does not exist.", hint="List them: kaon config list")
    if name == contexts.name_in_use() and name != LOCAL:
        raise InvalidInput(f"Context '{name}' is in use.", hint=f"Switch first: kaon config use {LOCAL}")
    left = {other: context for other, context in stored.contexts.items() if other != name}
    contexts.write(contexts.valid(stored, left, stored.current))
    note(f"Context '{name}' is deleted.")
