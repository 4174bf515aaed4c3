"""What a JSON schema allows, as far as arguments are made from texts and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_MAX_DEPTH = 16


def is_file_only(schema: Schema, definitions: Schema) -> bool:
    """Whether a parameter takes a file, or a list of them, and no strings."""
    items = [s["items"] for s in alternatives(schema, definitions) if isinstance(s.get("items"), dict)]
    kinds = {kind for part in (schema, *items) for kind in kinds_of(part, definitions)}
    return "file" in kinds and "string" not in kinds


def kinds_of(schema: Schema, definitions: Schema) -> Iterator[str]:
    """The JSON types that a schema allows, and "file"; none: any."""
    for found in alternatives(schema, definitions):
        if found.get("contentMediaType") or found.get("properties", {}).get("content", {}).get("contentEncoding"):
            yield "file"
            continue
        names = found.get("type", [])
        values = found["enum"] if "enum" in found else [found["const"]] if "const" in found else []
        for kind in [names] if isinstance(names, str) else names or ["string" for v in values if isinstance(v, str)]:
            yield kind
            if kind == "number":
                yield "integer"


def alternatives(schema: Schema, definitions: Schema, depth: int = 0) -> Iterator[Schema]:
    """The alternatives of a schema, with references resolved."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from alternatives(definitions.get(reference.rpartition("/")[2], {}), definitions, depth + 1)
        return
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ())]
    if not parts:
        yield schema
    for part in parts:
        yield from alternatives(part, definitions, depth + 1)
