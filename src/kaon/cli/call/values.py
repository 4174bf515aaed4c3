"""Arguments of a call from texts, by the endpoint's schema.

`name=text` is read by the schema: strings stay as typed, numbers, booleans, lists and objects are read as JSON, and
where only a file is possible, the text is its path.
`name=@file` and `name=@-` take a file's content or standard input: as a file where the endpoint takes one.
`name:=JSON` is that value whatever the schema. A name that is given several times is a list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaon.cli.shared.text import plain
from kaon.client.schemas import Schema, alternatives, is_file_only, kinds_of
from kaon.errors import InvalidInput
from kaon.types.media import File

_MAX_BYTES = 512 * 2**20


def read_stdin() -> bytes:
    """All of standard input."""
    return sys.stdin.buffer.read(_MAX_BYTES)


def arguments(
    texts: Sequence[str], schemas: Mapping[str, Schema], definitions: Schema, stdin: Callable[[], bytes] = read_stdin
) -> dict[str, Any]:
    """Values by name; `schemas` are those of the endpoint's parameters. Raises `InvalidInput`."""
    given: dict[str, list[Any]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        explicit = name.endswith(":")
        name = name.removesuffix(":")
        if not separator or not name:
            raise InvalidInput(
                f"Argument {plain(text)} is not of the form NAME=VALUE.", hint="Write it as NAME=VALUE or NAME:=JSON."
            )
        schema = schemas.get(name, {})
        if explicit:
            given.setdefault(name, []).append(_json(name, value))
        elif value.startswith("@") or (value != "null" and is_file_only(schema, definitions)):
            given.setdefault(name, []).append(_from_file(name, value.removeprefix("@"), schema, definitions, stdin))
        else:
            given.setdefault(name, []).append(_typed(value, schema, definitions))
    return {name: _joined(values) for name, values in given.items()}


def _joined(values: list[Any]) -> Any:
    """A single value as it is, several as one list."""
    if len(values) == 1:
        return values[0]
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _typed(text: str, schema: Schema, definitions: Schema) -> Any:
    kinds = set(kinds_of(schema, definitions))
    if kinds and kinds <= {"string", "null", "file"}:
        return None if text == "null" and "string" not in kinds else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text] if "array" in kinds and "string" not in kinds else text
    if "string" in kinds and _kind(value) not in kinds:  # a string or a number: what is no number is a string
        return text
    if "array" in kinds and not isinstance(value, list) and _kind(value) not in kinds:
        items: Schema = next((s["items"] for s in alternatives(schema, definitions) if "items" in s), {})
        return [_typed(text, items, definitions)]
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "quoted string"
        case list():
            return "array"
    return "object"


def _from_file(name: str, path: str, schema: Schema, definitions: Schema, stdin: Callable[[], bytes]) -> Any:
    try:
        content = stdin() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        hint = f"`{plain(name)}` takes a file: give its path."
        if not is_file_only(schema, definitions):
            hint = f"""A string that begins with @: {plain(name)}:='"@..."'."""
        raise InvalidInput(f"{plain(path)} cannot be read: {error.strerror}.", hint=hint) from None
    kinds = set(kinds_of(schema, definitions))
    if "file" in kinds:
        return File(content, name="" if path == "-" else Path(path).name)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{plain(path)} is not UTF-8 text, and `{plain(name)}` takes no file.", hint="Convert it to UTF-8."
        ) from None
    return text if kinds and kinds <= {"string", "null"} else _typed(text.rstrip("\n"), schema, definitions)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"The value of {plain(name)}:= is not JSON: {plain(error)}.", hint="Put it in single quotes."
        ) from None
