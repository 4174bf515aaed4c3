"""What a command prints on standard output: one thing or a list of them, as a table, JSON, YAML or names."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from kaon.cli.text import json_safe, plain, table

T = TypeVar("T", bound=BaseModel)


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True)
class TableShape(Generic[T]):
    """How things of one type become a table: titles, the cells of one thing, and what says its name."""

    titles: tuple[str, ...]
    row: Callable[[T], tuple[object, ...]]
    name: Callable[[T], str]


def shown(things: Sequence[T], shape: TableShape[T], form: Format, columns: int | None = None) -> str:
    """A list as text; a table fits `columns` if they are named."""
    if form is Format.TABLE:
        return table(shape.titles, [shape.row(thing) for thing in things], columns)
    if form is Format.NAME:
        return "\n".join(plain(shape.name(thing)) for thing in things)
    return document([thing.model_dump(mode="json") for thing in things], form)


def document(value: Any, form: Format) -> str:
    """Plain values as JSON or YAML that is safe on a terminal."""
    if form is not Format.YAML:
        return json_safe(json.dumps(value, indent=2, ensure_ascii=False))
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if plain(text, keep="\n") != text:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
    return text.rstrip("\n")


def across() -> int | None:
    """Columns of the terminal that data goes to; None: it goes elsewhere, where lines stay lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def put(text: str) -> None:
    """Print data, whole and at once. Nothing is printed for an empty text."""
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def put_list(things: Sequence[T], shape: TableShape[T], form: Format) -> None:
    """Print a list."""
    put(shown(things, shape, form, across()))


def put_one(thing: T, shape: TableShape[T], form: Format) -> None:
    """Print one thing: a table of one row, or one document."""
    if form in (Format.JSON, Format.YAML):
        put(document(thing.model_dump(mode="json"), form))
    else:
        put_list([thing], shape, form)
