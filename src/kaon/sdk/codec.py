"""One codec a type: reads values, writes them, and describes them in the OpenAPI document.

pydantic makes a core schema of a type; `codec_of` adapts it to the wire, and reader, writer and JSON schema are made of
the adapted one, so that they agree. Adapted are:

- names: aliases are used both ways, whatever a model's own configuration is;
- `bytes` are base64 text, numpy arrays nested lists, at any depth: in containers, dataclasses, models;
- numbers are finite, as in JSON. An answer has null for NaN where its type allows null, and is refused where it does
  not.
"""

from __future__ import annotations

import decimal
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NotRequired, Required, Union, get_args, get_origin

import pydantic_core
from pydantic import ConfigDict, RootModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaSerializer, SchemaValidator, core_schema

from kaon.sdk.arrays import ArraySchema, base64_schema, numpy_loaded, write_bytes
from kaon.sdk.hints import bare, modern
from kaon.sdk.pydantic_versions import (
    accepted_config,
    read_json,
    serializer_of,
    stops_at_first,
    validator_of,
    with_nulls,
)
from kaon.types.media import write_file

SchemaMode = typing.Literal["validation", "serialization"]
REF = "#/components/schemas/{model}"

_GENERATED = ConfigDict(arbitrary_types_allowed=True)
"""Lets pydantic accept unknown classes, so that arrays are found; all others have no JSON schema and are refused."""
_WRITTEN: dict[str, Any] = accepted_config(
    {
        "serialize_by_alias": True,
        "validate_by_alias": True,
        "ser_json_inf_nan": "constants",
    }
)
_READ: dict[str, Any] = {**_WRITTEN, "allow_inf_nan": False}
_OPAQUE = frozenset({"default", "expected", "metadata", "members", "cls", "config", "pattern", "serialization"})
"""Parts of a core schema that are the user's values, not schemas."""
_CONTAINERS = frozenset({"list", "set", "frozenset", "tuple", "dict"})
_ITEMS = {"dict": "values_schema", "list": "items_schema", "set": "items_schema", "frozenset": "items_schema"}
"""The part of a container that pydantic omits for items of any type."""
_LIMITS = frozenset({"ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"})
_SCHEMA_LIMITS = frozenset(
    {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "pattern"}
    | {f"{end}{what}" for end in ("min", "max") for what in ("Length", "Items", "Properties")}
)
_REQUIRED = (Required, NotRequired)
_UNDESCRIBED = frozenset({"is-instance", "is-subclass", "callable", "generator", "function-plain", "call", "arguments"})
"""Nodes that may have no JSON schema. Making one of every type, only to check, would slow each start."""


Extra = typing.Literal["allow", "ignore", "forbid"]


class Reader(typing.Protocol):
    """Reads JSON."""

    def validate_json(self, body: bytes, /, *, extra: Extra | None = None) -> Any:
        """The value in `body`; `extra`: overrides what the types do with unknown fields (from pydantic 2.12 on).

        Raises ValidationError.
        """


@dataclass(frozen=True, slots=True)
class Finite:
    """A reader that refuses NaN, which JSON does not have, where no type refuses it."""

    validator: SchemaValidator

    def validate_json(self, body: bytes, /, *, extra: Extra | None = None) -> Any:
        """See `Reader`."""
        if b"NaN" in body or b"Infinity" in body:
            _check_json(body)
        if extra is None:
            return self.validator.validate_json(body)
        return self.validator.validate_json(body, extra=extra)


@dataclass(frozen=True)
class Codec:
    """How values of one type are read, written and described."""

    schema: Any
    """The adapted core schema of pydantic."""
    reads: bool
    """Whether its values are input: then the validator refuses numbers that are not finite."""

    @cached_property
    def validator(self) -> SchemaValidator:
        """Reads values, and reports all problems of one."""
        return validator_of(self.schema, _READ if self.reads else _WRITTEN)

    @property
    def reader(self) -> Reader:
        """Reads JSON."""
        return Finite(self.validator) if self.has_anything else self.validator

    @cached_property
    def bulk_reader(self) -> Reader:
        """Reads JSON of any size: each container reports its first wrong item only.

        For the same reason it accepts unknown keys in an object of parameters; its caller must check them.
        """
        schema = _mapped(self.schema, _first_only)
        whole = schema["schema"] if schema["type"] == "definitions" else schema
        if whole["type"] == "typed-dict":
            whole["config"] = {**whole["config"], "extra_fields_behavior": "allow"}
        validator = validator_of(schema, _READ)
        return Finite(validator) if self.has_anything else validator

    @cached_property
    def serializer(self) -> SchemaSerializer:
        """Writes values; a number that is not finite is written as `NaN` or `Infinity`, which is not JSON."""
        return serializer_of(self.schema, _WRITTEN)

    @cached_property
    def nullable_serializer(self) -> SchemaSerializer:
        """The same, with null for such a number where the type allows null."""
        return serializer_of(_mapped(self.schema, _null_for_nan), _WRITTEN)

    @cached_property
    def nullable_validator(self) -> SchemaValidator:
        """`validator`, with None for such a number where the type allows null: before its limits are checked."""
        return validator_of(_mapped(self.schema, _none_for_nan), _WRITTEN) if self.has_numbers else self.validator

    def validate_json(self, text: str | bytes) -> Any:
        """The value in JSON. Raises ValidationError."""
        return self.validator.validate_json(text)

    def validate_python(self, value: Any) -> Any:
        """`value` converted to the type. Raises ValidationError."""
        return self.validator.validate_python(value)

    def validate_strings(self, text: str) -> Any:
        """The value of a text. Raises ValidationError."""
        return self.validator.validate_strings(text)  # type: ignore[arg-type]  # its stub has only mappings of texts

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names on the wire of a record's fields; empty for other types."""
        found, definitions = schemas([("", "validation", self)])
        schema = found[""]
        while "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        return frozenset(schema.get("properties", ()))

    @cached_property
    def has_numbers(self) -> bool:
        """Whether a value may hold a number that is not finite."""
        return _any_node(self.schema, lambda node: node.get("type") == "float" or _is_open(node) or _is_odd(node))

    @cached_property
    def has_anything(self) -> bool:
        """Whether a value may contain parts without a schema."""
        return _any_node(self.schema, _is_open)

    @cached_property
    def is_limited(self) -> bool:
        """Whether the type has limits (at least 0, at most 10 items) that only a validator checks.

        A pydantic model's own were checked when it was made.
        """
        without_models = _mapped(self.schema, lambda node: {"type": "any"} if node["type"] == "model" else node)
        return _any_node(without_models, _is_limited)


def schema_of(codec: Codec, mode: SchemaMode) -> dict[str, Any]:
    """The JSON schema of a codec's values, with all definitions in it. Raises PydanticUserError."""
    found, definitions = schemas([("", mode, codec)], "#/$defs/{model}")
    schema, root = found[""], ""
    while "$ref" in schema:
        root = schema["$ref"].rpartition("/")[2]
        schema = definitions[root]
    if root and f'"#/$defs/{root}"' not in json.dumps([found, *definitions.values()][1:]):
        del definitions[root]
    return {**schema, "$defs": definitions} if definitions else schema


def codec_of(hint: Any, *, reads: bool = True) -> Codec:
    """The codec of a type. Raises PydanticUserError, TypeError or ValueError for an unsupported type."""
    return _of_class(hint, reads) if isinstance(hint, type) and not get_args(hint) else _made(hint, reads)


@lru_cache(maxsize=256)
def _of_class(cls: type, reads: bool) -> Codec:
    return _made(cls, reads)


def _made(hint: Any, reads: bool) -> Codec:
    config = _READ if reads else _WRITTEN
    found: Any = TypeAdapter(list[modern(hint)], config=_GENERATED).core_schema  # type: ignore[misc,arg-type]
    whole = found["schema"] if found["type"] == "definitions" else found
    adapted = _adapted(whole.get("items_schema", core_schema.any_schema()), hint, config)
    if found["type"] == "definitions":
        definitions: list[Any] = [{**_adapted(d, None, config), "ref": d["ref"]} for d in found["definitions"]]
        adapted = core_schema.definitions_schema(adapted, definitions)
    codec = Codec(adapted, reads)
    if _any_node(adapted, lambda node: node.get("type") in _UNDESCRIBED and not _is_ours(node)):
        schemas([("", "validation" if reads else "serialization", codec)])
    return codec


def schemas(
    wanted: Iterable[tuple[Any, SchemaMode, Codec]], ref: str = REF
) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """JSON schemas by key, and the definitions to which they refer as `ref`. Raises PydanticUserError."""
    generator = _WireJsonSchema(by_alias=True, ref_template=ref)
    found, definitions = generator.generate_definitions([(key, mode, codec.schema) for key, mode, codec in wanted])
    return {key: dict(schema) for (key, _), schema in found.items()}, {str(k): v for k, v in definitions.items()}


class _WireJsonSchema(GenerateJsonSchema):
    """pydantic's generator, corrected where it disagrees with the serializer."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    def ser_schema(self, schema: Any) -> Any:
        """A serializer of the user with no return hint may write anything."""
        if schema.get("type") in ("function-plain", "function-wrap") and schema.get("return_schema") is None:
            return {}
        return super().ser_schema(schema)

    def encode_default(self, dft: Any) -> Any:
        encoded = super().encode_default(dft)
        try:
            json.dumps(encoded, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise pydantic_core.PydanticSerializationError("a default without a JSON form") from error
        return encoded


# --- walking core schemas ---


def _is_node(schema: Mapping[str, Any]) -> bool:
    """Whether it is a schema; else it is a mapping of the user's names, which may include `type`, to schemas."""
    return isinstance(schema.get("type"), str)


def _mapped(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy of a core schema with `change` applied to each node, inner ones first."""
    if isinstance(node, dict):
        opaque = _OPAQUE if _is_node(node) else ()
        copy = {key: value if key in opaque else _mapped(value, change) for key, value in node.items()}
        return change(copy) if _is_node(copy) else copy
    if isinstance(node, (list, tuple)):
        return type(node)(_mapped(each, change) for each in node)
    return node


def _any_node(node: Any, holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    if isinstance(node, dict):
        opaque = _OPAQUE if _is_node(node) else ()
        parts = (value for key, value in node.items() if key not in opaque)
        return (_is_node(node) and holds(node)) or any(_any_node(part, holds) for part in parts)
    return isinstance(node, (list, tuple)) and any(_any_node(each, holds) for each in node)


def _is_open(node: Mapping[str, Any]) -> bool:
    """Whether any value is possible: no type, extra fields of a model, a validator of the user."""
    extra = node.get("extra_behavior") or (node.get("config") or {}).get("extra_fields_behavior")
    return (
        node.get("type") == "any" or extra == "allow" or (node.get("type") == "function-plain" and not _is_ours(node))
    )


def _is_odd(node: Mapping[str, Any]) -> bool:
    """Whether a function of the user serializes the value."""
    return str((node.get("serialization") or {}).get("type")).startswith("function") and not _is_ours(node)


def _is_ours(node: Mapping[str, Any]) -> bool:
    function = (node.get("serialization") or {}).get("function")
    return function in _OURS or isinstance(getattr(function, "__self__", None), ArraySchema)


def _is_limited(node: Mapping[str, Any]) -> bool:
    updates = (node.get("metadata") or {}).get("pydantic_js_updates") or {}
    return bool(_LIMITS & node.keys()) or bool(_SCHEMA_LIMITS & updates.keys())


def _check_json(body: bytes) -> None:
    """Raises ValidationError when `body` is not strict JSON."""
    try:
        read_json(body)
    except ValueError as error:
        raise pydantic_core.ValidationError.from_exception_data(
            "JSON", [{"type": "json_invalid", "loc": (), "input": None, "ctx": {"error": str(error)}}]
        ) from None


def _first_only(node: dict[str, Any]) -> dict[str, Any]:
    return stops_at_first(node) if node["type"] in _CONTAINERS else node


def _null_for_nan(node: dict[str, Any]) -> dict[str, Any]:
    match node["type"]:
        case "nullable":
            return {**node, "serialization": core_schema.wrap_serializer_function_ser_schema(_null_or, schema=node)}
        case "any" if "serialization" not in node:
            return {**node, "serialization": core_schema.plain_serializer_function_ser_schema(with_nulls)}
        case "float" if "serialization" not in node:  # so that a union goes on to the choice that allows null
            return {**node, "serialization": core_schema.plain_serializer_function_ser_schema(_finite)}
        case _:
            return node


def _null_or(value: Any, write: Callable[[Any], Any]) -> Any:
    return None if _not_finite(value) else write(value)


def _none_for_nan(node: dict[str, Any]) -> Any:
    return core_schema.no_info_before_validator_function(_none_or, node) if node["type"] == "nullable" else node


def _none_or(value: Any) -> Any:
    return None if _not_finite(value) else value


def _finite(value: Any) -> Any:
    if not isinstance(value, int | float) or _not_finite(value):
        raise pydantic_core.PydanticSerializationUnexpectedValue("a finite number is needed")
    return value


def _not_finite(value: Any) -> bool:
    while isinstance(value, RootModel):  # on the wire it is its root
        value = value.root
    return isinstance(value, float) and not math.isfinite(value)


def _decimal_text(value: Any) -> str:
    if not isinstance(value, decimal.Decimal) or not value.is_finite():
        raise ValueError("a finite decimal is needed")
    return str(value)


_DECIMAL_OUT = core_schema.plain_serializer_function_ser_schema(
    _decimal_text, return_schema=core_schema.str_schema(pattern=r"^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$"), when_used="json"
)


_OURS = (_decimal_text, write_bytes, write_file)
"""Serializers that write finite numbers only."""


def _adapted(node: Any, hint: Any, config: Mapping[str, Any]) -> Any:
    """The schema for the wire. `hint` is the type that it was made of, if known; for a mapping or a list of schemas a
    mapping or a list of types."""
    if isinstance(node, (list, tuple)):
        hints = hint if isinstance(hint, list) and len(hint) == len(node) else [None] * len(node)
        return type(node)(_adapted(each, one, config) for each, one in zip(node, hints, strict=True))
    if not isinstance(node, dict):
        return node
    if not _is_node(node):
        named = hint if isinstance(hint, Mapping) else {}
        return {key: _adapted(value, named.get(key), config) for key, value in node.items()}
    kind, hint, numpy = node["type"], bare(hint), numpy_loaded()
    if kind == "definition-ref" and ArraySchema.covers(hint):  # a generic alias has a definition of its own
        return ArraySchema.of(hint).core_schema()
    if kind == "is-instance" and numpy is not None and node["cls"] is numpy.ndarray:
        return (ArraySchema.of(hint) if ArraySchema.covers(hint) else ArraySchema()).core_schema()
    if kind == "bytes" and "serialization" not in node:
        return base64_schema(node)
    within = _within(node, kind, hint)
    copy = {key: v if key in _OPAQUE else _adapted(v, within.get(key), config) for key, v in node.items()}
    if kind in _ITEMS:
        copy.setdefault(_ITEMS[kind], core_schema.any_schema())
    match kind:
        case "model" | "dataclass" | "typed-dict":
            copy["config"] = {**node.get("config", {}), **config}
            if kind == "dataclass":  # unlike a model, it checks nothing when it is made
                copy["config"]["revalidate_instances"] = "always"
        case "float" if "allow_inf_nan" in config:
            copy["allow_inf_nan"] = False
        case "decimal" if "serialization" not in node:
            copy["serialization"] = _DECIMAL_OUT
    return copy


def _within(node: Mapping[str, Any], kind: str, hint: Any) -> dict[str, Any]:
    """The types of a node's parts, by their keys."""
    args = get_args(hint)
    match kind:
        case "model" | "dataclass":
            return {"schema": _fields(node["cls"])}
        case "typed-dict":
            return {"fields": _fields(node.get("cls") or hint)}
        case "call":
            return {"arguments_schema": _fields(node["function"])}
        case "model-fields":
            return {"fields": hint}
        case "dataclass-args" if isinstance(hint, Mapping):
            return {"fields": [hint.get(field["name"]) for field in node["fields"]]}
        case "named-tuple":
            named = _fields(node["cls"])
            return {"fields": [named.get(field["name"]) for field in node["fields"]]}
        case "arguments" if isinstance(hint, Mapping):
            return {"arguments_schema": [{"schema": hint.get(one["name"])} for one in node["arguments_schema"]]}
        case "nullable":
            arms = tuple(arm for arm in args if arm is not types.NoneType)
            return {"schema": Union[arms] if arms else None}  # noqa: UP007
        case "union":
            return {"choices": list(args)}
        case "list" | "set" | "frozenset":
            return {"items_schema": args[0] if args else None}
        case "tuple":
            return {"items_schema": [arg for arg in args if arg is not ...]}
        case "dict":
            return dict(zip(("keys_schema", "values_schema"), args, strict=False))
        case _:
            return {"schema": hint}


def _fields(cls: Any) -> dict[str, Any]:
    try:
        found = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # pydantic could read them; only element types of arrays are lost
        return {}
    return {name: get_args(kind)[0] if get_origin(kind) in _REQUIRED else kind for name, kind in found.items()}
