"""An endpoint as a method of a client, with a signature and a docstring from the OpenAPI document."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from kaon.client.operation import Operation
from kaon.client.schemas import Schema, alternatives, is_file_only
from kaon.types.media import File

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": None,
}


class EndpointMethod:
    """Calls an endpoint: `client.embed(texts=["a"])`."""

    def __init__(self, name: str, call: Callable[..., Any], find: Callable[[], Operation | None]) -> None:
        self._call = call
        self._find = find
        self.__name__ = self.__qualname__ = name

    def __call__(self, *body: Any, **arguments: Any) -> Any:
        return self._call(self.__name__, *body, **arguments)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__doc__", "__signature__") and (operation := object.__getattribute__(self, "_find")()):
            return docstring(operation) if name == "__doc__" else signature(operation)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return f"<endpoint {self.__name__}>"


def signature(operation: Operation) -> inspect.Signature:
    """The parameters by name; the required ones first."""
    names = [name for name in operation.schemas if name != operation.body_name or len(operation.schemas) == 1]
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name in operation.required else operation.schemas[name].get("default"),
            annotation=_annotation(operation.schemas[name], operation.definitions),
        )
        for name in sorted(names, key=lambda name: name not in operation.required)
        if name.isidentifier()
    ]
    return inspect.Signature(parameters, return_annotation=_annotation(operation.answer, operation.definitions))


def docstring(operation: Operation) -> str:
    """Summary, description, and the parameters that are described."""
    described = {name: schema.get("description", "") for name, schema in operation.schemas.items()}
    lines = [f"    {name}: {text}" for name, text in described.items() if text]
    parts = [operation.summary, operation.description, "\n".join(["Args:", *lines]) if lines else ""]
    return "\n\n".join(part for part in parts if part)


def _annotation(schema: Schema, definitions: Schema) -> Any:
    """The Python type of a schema; Any when it has none that is simple."""
    if is_file_only(schema, definitions):
        return File
    found: Any = None
    for number, alternative in enumerate(alternatives(schema, definitions)):
        kind = alternative.get("type")
        if not isinstance(kind, str) or kind not in _TYPES:
            return Any
        type_ = _TYPES[kind]
        if kind == "array" and isinstance(alternative.get("items"), dict):
            type_ = list[_annotation(alternative["items"], definitions)]  # type: ignore[misc]
        found = type_ if number == 0 else found | type_
    return found
