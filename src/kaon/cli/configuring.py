"""What `config` does."""

from __future__ import annotations

from kaon.cli import contexts
from kaon.cli.contexts import LOCAL, Context
from kaon.cli.notes import note
from kaon.cli.output import Format, document, put
from kaon.cli.text import plain, table
from kaon.errors import InvalidInput, NotFound
from kaon.settings import Settings


def show(form: Format) -> None:
    """The context in use and where things are; never a key."""
    settings, context, name = Settings(), contexts.in_use(), contexts.name_in_use()
    facts = {
        "context": name,
        "url": context.url or f"this machine ({settings.api_socket})",
        "key_file": context.key_file or ("" if context.url else str(settings.admin_key_file)),
        "workspace": context.workspace,
        "home": str(settings.home),
        "edge": settings.url,
    }
    if form is Format.NAME:
        put(plain(name))
    elif form is Format.TABLE:
        put("\n".join(f"{label + ':':<11}{plain(value) or '-'}" for label, value in facts.items()))
    else:
        put(document(facts, form))


def list_contexts(form: Format) -> None:
    """All contexts."""
    kept, current = contexts.read(), contexts.name_in_use()
    every = {LOCAL: Context()} | kept.contexts
    if form is Format.NAME:
        put("\n".join(every))
    elif form is Format.TABLE:
        rows = [
            ("*" if name == current else "", name, context.url or "this machine", context.workspace)
            for name, context in every.items()
        ]
        put(table(("", "name", "url", "workspace"), rows))
    else:
        put(document({name: context.model_dump(mode="json") for name, context in every.items()}, form))


def use(name: str) -> None:
    """Work in a context from now on."""
    kept = contexts.read()
    is_new = name not in kept.contexts and name != LOCAL
    made = contexts.valid(kept, kept.contexts | ({name: Context()} if is_new else {}), name)
    contexts.write(made)
    note(f"Working in '{name}'." + (" Say where it is: kaon config set url URL" if is_new else ""))


def set_value(field: str, value: str) -> None:
    """Change a value of the context in use."""
    kept, name = contexts.read(), contexts.name_in_use()
    context = contexts.changed(kept.find(name), {field: value})
    contexts.write(contexts.valid(kept, kept.contexts | {name: context}, kept.current))
    note(f"{field.replace('_', '-')} of '{name}' is now {value or 'unset'}.")


def remove(name: str) -> None:
    """Forget a context."""
    kept = contexts.read()
    if name not in kept.contexts:
        raise NotFound(f"There is no context '{plain(name)}'.", hint="`kaon config list` lists them.")
    if name == contexts.name_in_use() and name != LOCAL:
        raise InvalidInput(f"'{name}' is in use.", hint=f"First: kaon config use {LOCAL}")
    left = {other: context for other, context in kept.contexts.items() if other != name}
    contexts.write(contexts.valid(kept, left, kept.current))
    note(f"Context '{name}' is forgotten.")
