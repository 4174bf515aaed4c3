"""A cheap check that an answer matches its hint.

pydantic's serializer writes any value and only warns when it does not match its hint; turning the warning into an error
costs more than writing (0.9 of 1.1 us for a small model). Most answers are scalars or models of scalars, for which
comparing types is enough. The check may reject a valid answer, but never accepts an invalid one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Exact = Callable[[Any], bool]

_SCALARS = {"str": str, "int": int, "float": float, "bool": bool}


def exact_check(schema: Any) -> Exact | None:
    """The check for answers of a pydantic core schema; None for other types than scalars and models of scalars."""
    scalar = _scalar(schema)
    if scalar is not None:
        return lambda answer: type(answer) is scalar
    model = _model(schema)
    if model is None:
        return None
    cls, types = model
    return lambda answer: type(answer) is cls and tuple(map(type, answer.__dict__.values())) == types


def _scalar(schema: Any) -> type | None:
    if "serialization" in schema:
        return None
    if schema["type"] == "default":
        return _scalar(schema["schema"])
    return _SCALARS.get(schema["type"])


def _model(schema: Any) -> tuple[type, tuple[type, ...]] | None:
    """A model of scalars: its class, and the types of its fields in order."""
    fields = schema.get("schema", {})
    if schema["type"] != "model" or schema.get("root_model") or "serialization" in schema:
        return None
    if fields.get("type") != "model-fields" or "serialization" in fields or fields.get("computed_fields"):
        return None
    if (
        schema.get("config", {}).get("extra_fields_behavior") == "allow"
        or schema["cls"].__pydantic_decorators__.computed_fields
    ):
        return None
    types = tuple(_scalar(field["schema"]) for field in fields["fields"].values())
    if None in types:
        return None
    return schema["cls"], types  # type: ignore[return-value]
