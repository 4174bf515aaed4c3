"""What differs between the versions of pydantic that a service may have.

The SDK is written for the newest one. Each difference is found by trying what the installed pydantic-core accepts, here
and nowhere else.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
import pydantic_core
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator, core_schema

MISREADS_DATACLASSES = tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 6)
"""Whether it looks for names in a standard dataclass's postponed annotations where the class is used."""
_warnings_lock = threading.Lock()


def _accepts(call: Callable[[], object]) -> bool:
    try:
        call()
    except (TypeError, pydantic_core.SchemaError):
        return False
    return True


_ANY: Any = core_schema.any_schema()
_NOT_PREBUILT: dict[str, Any] = (
    {"_use_prebuilt": False} if _accepts(lambda: SchemaValidator(_ANY, _use_prebuilt=False)) else {}
)
"""From 2.11 on a model's own validator stands for its part of a schema, unless this is set."""
_PLAIN_JSON: dict[str, Any] = (
    {"cache_strings": False} if _accepts(lambda: pydantic_core.from_json(b"0", cache_strings=False)) else {}
)
_NULL_FOR_NAN: dict[str, Any] = (
    {"inf_nan_mode": "null"} if _accepts(lambda: pydantic_core.to_json(0, inf_nan_mode="null")) else {}
)
_RAISES_WARNINGS = _accepts(lambda: SchemaSerializer(_ANY).to_json(0, warnings="error"))


def accepted_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that this version has. What it does not have is its default: names on the wire are aliases."""
    return {key: value for key, value in config.items() if _accepts(lambda: SchemaValidator(_ANY, {key: value}))}  # type: ignore[arg-type]  # noqa: B023


def stops_at_first(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container's schema that reports its first wrong item only; as it is where this version cannot do that."""
    stopping = {**container, "fail_fast": True}
    shape: dict[str, Any] = {"type": container["type"], "fail_fast": True}
    shape |= {"items_schema": [_ANY]} if container["type"] == "tuple" else {}
    return stopping if _accepts(lambda: SchemaValidator(shape)) else dict(container)


def validator_of(schema: Any, config: Mapping[str, Any]) -> SchemaValidator:
    """A validator made of `schema` alone."""
    return SchemaValidator(schema, config, **_NOT_PREBUILT)  # type: ignore[arg-type]


def serializer_of(schema: Any, config: Mapping[str, Any]) -> SchemaSerializer:
    """A serializer made of `schema` alone."""
    return SchemaSerializer(schema, config, **_NOT_PREBUILT)  # type: ignore[arg-type]


def write_json(serializer: SchemaSerializer, value: Any) -> bytes:
    """JSON of `value`. Raises PydanticSerializationError when it is not of the serializer's type."""
    if _RAISES_WARNINGS:
        return serializer.to_json(value, warnings="error")
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return serializer.to_json(value)
        except UserWarning as error:
            raise PydanticSerializationError(str(error)) from None


def read_json(text: str | bytes) -> Any:
    """The value of strict JSON, without NaN and infinities. Raises ValueError."""
    return pydantic_core.from_json(text, allow_inf_nan=False, **_PLAIN_JSON)


def with_nulls(value: Any) -> Any:
    """`value` as JSON has it, null for each number that is not finite."""
    if _NULL_FOR_NAN:
        return pydantic_core.from_json(pydantic_core.to_json(value, by_alias=True, **_NULL_FOR_NAN))
    return _finite(pydantic_core.to_jsonable_python(value, by_alias=True))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value
