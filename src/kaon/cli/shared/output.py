"""What a command prints on standard output: a resource or a list, as a table, JSON, YAML or names."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel

from kaon.cli.shared.text import json_safe, plain, table

T = TypeVar("T", bound=BaseModel)


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True)
class TableShape(Generic[T]):
    """How a type becomes a table: titles, and the cells and the name of an item."""

    titles: tuple[str, ...]
    row: Callable[[T], tuple[object, ...]]
    name: Callable[[T], str]


def table_text(items: Sequence[T], shape: TableShape[T], form: Format, columns: int | None = None) -> str:
    """A list as text; a table fits `columns`, if given."""
    if form is Format.TABLE:
        return table(shape.titles, [shape.row(item) for item in items], columns)
    if form is Format.NAME:
        return "\n".join(plain(shape.name(item)) for item in items)
    return document([item.model_dump(mode="json") for item in items], form)


def document(value: Any, form: Format) -> str:
    """Plain values as JSON or YAML that is safe on a terminal."""
    if form is not Format.YAML:
        return json_safe(json.dumps(value, indent=2, ensure_ascii=False))
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if plain(text, keep="\n") != text:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
    return text.rstrip("\n")


def terminal_columns() -> int | None:
    """The width of the terminal that is standard output; None when it is none: lines are not wrapped then."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def page_columns() -> int:
    """How wide a page of charts or paragraphs is."""
    return min(max(shutil.get_terminal_size().columns, 40), 200)


def put(text: str) -> None:
    """Print a text and flush. Prints nothing for an empty text."""
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def put_list(items: Sequence[T], shape: TableShape[T], form: Format) -> None:
    """Print a list."""
    put(table_text(items, shape, form, terminal_columns()))


def put_one(item: T, shape: TableShape[T], form: Format) -> None:
    """Print one item: a table of one row, or one document."""
    if form in (Format.JSON, Format.YAML):
        put(document(item.model_dump(mode="json"), form))
    else:
        put_list([item], shape, form)
