"""`kaon get`: resources of any kind, as a list, one by one, or as they change."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from kaon.cli.shared import tables
from kaon.cli.shared.broken_pipe import until_reader_ends
from kaon.cli.shared.options import WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, TableShape, document, put, put_list, put_one
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.text import json_safe, pairs, plain, table
from kaon.client.watch import ResourceChange
from kaon.errors import InvalidInput, NotFound
from kaon.types.kind import Kind, Verb
from kaon.types.kinds import KINDS, kind_named

app = verbs()
_KINDS = ", ".join("/".join((kind.name, *kind.short)) for kind in KINDS.values() if kind.rights)
_ALIGNED = 50
"""The widths of a watch's columns are those of so many last rows."""


class _GetFormat(StrEnum):
    """Output formats, with a table of more columns."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@verb(
    app,
    "kaon get deployments",
    "kaon get deployment greeter -o yaml",
    "kaon get replicas greeter -o wide",
    "kaon get replicas --filter phase=Ready --limit 20",
    "kaon get deployments --watch",
    more=f"Kinds: {_KINDS}; the plural also works.",
)
def get(
    word: Annotated[str, typer.Argument(metavar="KIND", help="The kind of resource.", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="One resource, or the deployment whose resources to list.", show_default=False)
    ] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="NAME=VALUE", help="Like state=Stable or prefix=web; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of resources.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Also print each change as it comes.")] = False,
    workspace: WorkspaceOption = None,
    output: Annotated[
        _GetFormat, typer.Option("-o", "--output", help="table, wide, json, yaml or name.")
    ] = _GetFormat.TABLE,
) -> None:
    """List resources of a kind, or show one."""
    wide = output is _GetFormat.WIDE
    form = Format.TABLE if wide else Format(output)
    kind = kind_named(word)
    query = _query(kind, filters or ())
    with opened(workspace) as remote:
        if watch:
            print_changes(remote, kind, name, form, wide=wide, **query, **({"limit": limit} if limit else {}))
            return
        shape = tables.of(kind.name, time.time(), wide=wide)
        if name and Verb.GET in kind.rights and not (query or limit):
            found = _find(remote, kind, name)
            if not isinstance(found, list):
                put_one(found, shape, form)
                return
        else:
            found = remote.resources(kind, limit, **({"name": name} if name else {}), **query)
        put_list(found, shape, form)


def print_resources(word: str, form: Format, workspace: str | None = None) -> None:
    """Print all resources of a kind."""
    kind = kind_named(word)
    with opened(workspace) as remote:
        put_list(remote.resources(kind), tables.of(kind.name, time.time()), form)


def print_changes(remote: Remote, kind: Kind, name: str, form: Format, *, wide: bool = False, **query: Any) -> None:
    """Print the resources of a kind, then each change as it comes."""
    mutable = Verb.GET in kind.rights
    if name:
        query["prefix" if mutable else "name"] = name
    rows: list[tuple[object, ...]] = []
    with until_reader_ends():
        for change in remote.watch(kind, **query):
            shape = tables.of(kind.name, time.time(), wide=wide)
            if change.what == "synced" or (mutable and name and change.view.name != name):
                continue
            if form is not Format.TABLE:
                put(_change_document(change, shape, form))
                continue
            titles = ("change", *shape.titles) if mutable else shape.titles
            row = (change.what, *shape.row(change.view)) if mutable else shape.row(change.view)
            lines = table(titles, [*rows, row]).splitlines()
            put("\n".join(lines[-1:] if rows else lines))
            rows = [*rows, row][-_ALIGNED:]


def _change_document(change: ResourceChange, shape: TableShape[Any], form: Format) -> str:
    """A change as a document: JSON on one line, YAML after a separator."""
    if form is Format.NAME:
        return plain(shape.name(change.view))
    value = {"change": change.what, "view": change.view.model_dump(mode="json")}
    if form is Format.JSON:
        return json_safe(json.dumps(value, ensure_ascii=False))
    return f"---\n{document(value, form)}"


def _query(kind: Kind, texts: Sequence[str]) -> dict[str, str]:
    """The filters in 'NAME=VALUE' texts. Raises `InvalidInput` for those that the kind does not have."""
    names = [wanted.name for wanted in kind.filters] + ["prefix"] * (Verb.GET in kind.rights)
    found = pairs(texts, "--filter")
    if unknown := sorted(found.keys() - set(names)):
        raise InvalidInput(
            f"{kind.plural.capitalize()} have no filter '{plain(unknown[0])}'.", hint=f"Filters: {', '.join(names)}."
        )
    return found


def _find(remote: Remote, kind: Kind, name: str) -> Any:
    """The resource of that name; else those of the deployment of that name, where the kind belongs to deployments."""
    try:
        return remote.resource(kind, name)
    except NotFound:
        if not any(wanted.name == "deployment" for wanted in kind.filters):
            raise
        if found := remote.resources(kind, deployment=name):
            return found
        raise
