"""Answers that are exactly what their hint says, told cheaply.

pydantic's serializer writes what it is given and only warns of what the hint does not allow; to have the warning as an
error costs more than the writing (0.9 of 1.1 us for a small model). Most answers are so plain that a look at their
types proves them right: a scalar, or a model of scalars. The look may say no to an answer that is right, never yes to
one that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Exact = Callable[[Any], bool]

_SCALARS = {"str": str, "int": int, "float": float, "bool": bool}


def exact_check(schema: Any) -> Exact | None:
    """The look for answers of a pydantic core schema; None when it is not of the plain kind."""
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
    if schema.get("config", {}).get("extra_fields_behavior") == "allow" or schema["cls"].__pydantic_computed_fields__:
        return None
    types = tuple(_scalar(field["schema"]) for field in fields["fields"].values())
    if None in types:
        return None
    return schema["cls"], types  # type: ignore[return-value]
