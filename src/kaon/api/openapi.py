"""The API's OpenAPI document, made of its routes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from kaon.api.authorizer import Open
from kaon.api.problems import Problem
from kaon.api.router import AuthorizedRoute
from kaon.drivers.port import LogLine
from kaon.types.key import Right
from kaon.version import __version__

DESCRIPTION = """Everything that people, programs and agents ask of the control plane.

Give a key as `Authorization: Bearer KEY`. What belongs to another workspace does not exist for a key. Every
error is an RFC 9457 problem document with a code, a hint and a request id."""


def document(routes: Sequence[AuthorizedRoute]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes, with the right that each needs as `x-kaon-right`."""
    made = get_openapi(title="Kaon", version=__version__, description=DESCRIPTION, routes=list(routes))
    components = made.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for model in (Problem, LogLine):
        _add(components.setdefault("schemas", {}), model)
    closed: set[str] = set()
    for route in (r for r in routes if r.include_in_schema):
        for method in route.methods or ():
            operation = made["paths"][route.path_format][method.lower()]
            operation["x-kaon-right"] = route.right.value
            if route.right is not Right.AGENT:
                _close(components["schemas"], operation.get("requestBody", {}), closed)
            if route.right is not Open.TO_ALL:
                operation["security"] = [{"key": []}]
    return made


def _add(schemas: dict[str, Any], model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema


def _close(schemas: dict[str, Any], part: Any, closed: set[str]) -> None:
    """Say that the objects of a request, at every depth, take no other fields: see `kaon.types.model.from_request`."""
    match part:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            if name not in closed:
                closed.add(name)
                if "properties" in schemas[name]:
                    schemas[name]["additionalProperties"] = False
                _close(schemas, schemas[name], closed)
        case dict():
            for below in part.values():
                _close(schemas, below, closed)
        case list():
            for below in part:
                _close(schemas, below, closed)


def text(routes: Sequence[AuthorizedRoute]) -> str:
    """The document as it is committed."""
    return json.dumps(document(routes), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
