"""What is typed as an argument of a call, as the value that the endpoint's schema asks for.

`name=text` is read by the schema: text stays text, numbers, booleans, lists and objects are read as JSON. `name=@file`
and `name=@-` take what is in a file or comes in on standard input: as a file where the endpoint takes one. `name:=JSON`
is that value whatever the schema says. A name that is given several times is a list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaon.cli.text import plain
from kaon.errors import InvalidInput
from kaon.types.media import File

Schema = Mapping[str, Any]
_DEPTH = 16
_MOST_BYTES = 512 * 2**20


def read_stdin() -> bytes:
    """All of standard input."""
    return sys.stdin.buffer.read(_MOST_BYTES)


def arguments(
    texts: Sequence[str], schemas: Mapping[str, Schema], definitions: Schema, stdin: Callable[[], bytes] = read_stdin
) -> dict[str, Any]:
    """Values by name; `schemas` of the endpoint's parameters. Raises `InvalidInput`."""
    given: dict[str, list[Any]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        explicit = name.endswith(":")
        name = name.removesuffix(":")
        if not separator or not name:
            raise InvalidInput(
                f"The argument {plain(text)} has no name and '='.", hint="Write it as NAME=VALUE or NAME:=JSON."
            )
        schema = schemas.get(name, {})
        if explicit:
            given.setdefault(name, []).append(_json(name, value))
        elif value.startswith("@"):
            given.setdefault(name, []).append(_from_file(name, value[1:], schema, definitions, stdin))
        else:
            given.setdefault(name, []).append(_typed(value, schema, definitions))
    return {name: _joined(values) for name, values in given.items()}


def _joined(values: list[Any]) -> Any:
    """What was given once as it is; what was given several times as one list."""
    if len(values) == 1:
        return values[0]
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _typed(text: str, schema: Schema, definitions: Schema) -> Any:
    kinds = set(_kinds(schema, definitions))
    if kinds and kinds <= {"string", "null", "file"}:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text] if "array" in kinds and "string" not in kinds else text
    if "string" in kinds and _kind(value) not in kinds:  # text, or a number: what is no number is text
        return text
    if "array" in kinds and not isinstance(value, list) and _kind(value) not in kinds:
        items: Schema = next((s["items"] for s in _alternatives(schema, definitions) if "items" in s), {})
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
            return "text in quotes"
        case list():
            return "array"
    return "object"


def _kinds(schema: Schema, definitions: Schema) -> Iterator[str]:
    """The types of JSON that a schema takes; none: any. A file is one of its own."""
    for found in _alternatives(schema, definitions):
        if found.get("contentMediaType") or found.get("properties", {}).get("content", {}).get("contentEncoding"):
            yield "file"
            continue
        names = found.get("type", [])
        values = found["enum"] if "enum" in found else [found["const"]] if "const" in found else []
        for kind in [names] if isinstance(names, str) else names or ["string" for v in values if isinstance(v, str)]:
            yield kind
            if kind == "number":
                yield "integer"


def _alternatives(schema: Schema, definitions: Schema, depth: int = 0) -> Iterator[Schema]:
    """The schema without references and unions."""
    if depth > _DEPTH:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _alternatives(definitions.get(reference.rpartition("/")[2], {}), definitions, depth + 1)
        return
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ())]
    if not parts:
        yield schema
    for part in parts:
        yield from _alternatives(part, definitions, depth + 1)


def _from_file(name: str, place: str, schema: Schema, definitions: Schema, stdin: Callable[[], bytes]) -> Any:
    try:
        content = stdin() if place == "-" else Path(place).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{plain(place)} cannot be read: {error.strerror}.",
            hint=f"""A text that begins with @ is written {plain(name)}:='"@..."'.""",
        ) from None
    kinds = set(_kinds(schema, definitions))
    if "file" in kinds:
        return File(content, name="" if place == "-" else Path(place).name)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{plain(place)} is not text in UTF-8, and `{plain(name)}` takes no file.", hint="Convert it first."
        ) from None
    return text if kinds and kinds <= {"string", "null"} else _typed(text.rstrip("\n"), schema, definitions)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{plain(name)}:= is not followed by JSON: {plain(error)}.", hint="Quote it with single quotes."
        ) from None
