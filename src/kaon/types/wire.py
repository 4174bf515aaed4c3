"""Values in wire form: JSON for a body, text for a query; numpy arrays as nested lists, bytes in base64."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from kaon.errors import InvalidInput
from kaon.types.media import File


def json_of(value: Any) -> bytes:
    """`value` as JSON. Raises InvalidInput when it has no JSON form."""
    try:
        text = to_json(value, bytes_mode="base64", fallback=_other)
    except (PydanticSerializationError, ValueError):
        raise InvalidInput("An argument cannot be converted to JSON.") from None
    if b"NaN" in text or b"Infinity" in text:
        try:
            from_json(text, allow_inf_nan=False)
        except ValueError:
            raise InvalidInput(
                "An argument contains NaN or infinity, which JSON does not have.",
                hint="Send None where the endpoint accepts it.",
            ) from None
    return text


def text_of(value: Any) -> str:
    """`value` as the text of a query parameter, a path or a form's field. Raises InvalidInput."""
    try:
        plain = to_jsonable_python(value, bytes_mode="base64", fallback=_other)
    except (PydanticSerializationError, ValueError):
        raise InvalidInput("An argument cannot be converted to JSON.") from None
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def many(value: Any) -> list[Any]:
    """The values of a repeatable parameter; a value that is no list is one."""
    if hasattr(value, "tolist"):  # numpy, which is not imported here
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def pairs_of(name: str, value: Any) -> list[tuple[str, str]]:
    """The query parameters for `value`; none for None."""
    return [] if value is None else [(name, text_of(v)) for v in many(value)]


def _other(value: Any) -> Any:
    if isinstance(value, File):
        return value.wire()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ValueError(type(value).__name__)
