"""Numpy arrays and raw bytes in JSON, for pydantic.

`NDArray[np.float32]` fixes the dtype; `np.ndarray[tuple[int, Literal[3]], np.dtype[np.uint8]]` the shape as well:
one argument an axis, a `Literal` where its length is fixed.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic_core import CoreSchema, core_schema

from kaon.types.media import read_base64

if TYPE_CHECKING:
    import numpy as np


_KINDS = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "U": "string"}
"""JSON types of numpy's kinds; others (complex, dates, bytes) are not supported."""
_EXAMPLES: dict[str, Any] = {"f": 1.5, "i": 1, "u": 1, "b": True, "U": "hello"}


def numpy_loaded() -> Any:
    """The numpy module if the user's code has imported it, else None."""
    return sys.modules.get("numpy")


@dataclass(frozen=True)
class ArraySchema:
    """How an array of one dtype and shape is read and written; None: any."""

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None

    @staticmethod
    def covers(hint: Any) -> bool:
        """Whether `hint` is `np.ndarray` or a parametrised form of it."""
        numpy = numpy_loaded()
        return numpy is not None and (get_origin(hint) or hint) is numpy.ndarray

    @classmethod
    def of(cls, hint: Any) -> ArraySchema:
        """The schema of a hint."""
        match get_args(hint):
            case (shape, dtype):
                return cls(_dtype(dtype), _shape(shape))
            case _:
                return cls()

    def read(self, value: Any) -> np.ndarray[Any, Any]:
        """An array from nested lists, or an array as it is when it fits. Raises ValueError."""
        import numpy as np

        if not isinstance(value, (list, tuple, np.ndarray, int, float, bool)):
            raise ValueError("must be nested lists of numbers")
        try:
            array = np.asarray(value) if self.dtype is None else _cast(value, self.dtype)
        except (TypeError, OverflowError, ValueError):
            raise ValueError(f"must be nested lists of equal lengths, of {self.dtype or 'numbers'}") from None
        if array.dtype.kind not in _KINDS:
            raise ValueError("must be nested lists of numbers")
        if array.ndim == 0 and self.shape is None:
            raise ValueError("must be nested lists, not a single value")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("has NaN or infinity, which JSON does not have")
        if self.shape is not None and not self._fits(array.shape):
            raise ValueError(f"must be an array of shape {self._spelled()}, not {array.shape}")
        return array

    def write(self, value: Any) -> Any:
        """Nested lists. Raises ValueError when the array does not match the hint."""
        return self.read(value).tolist()

    def _fits(self, shape: tuple[int, ...]) -> bool:
        want = self.shape or ()
        return len(want) == len(shape) and all(w in (None, s) for w, s in zip(want, shape, strict=True))

    def _spelled(self) -> str:
        return "(" + ", ".join("any" if n is None else str(n) for n in self.shape or ()) + ")"

    def core_schema(self) -> CoreSchema:
        """Reads and writes arrays in pydantic, and describes them."""
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(self.write),
            metadata={"pydantic_js_functions": [lambda _schema, _handler: self.json_schema()]},
        )

    def json_schema(self) -> dict[str, Any]:
        """Nested lists, with the shape if the hint has one."""
        numpy = numpy_loaded()
        kind = numpy.dtype(self.dtype).kind if self.dtype is not None else ""
        leaf: dict[str, Any] = {"type": _KINDS[kind]} if kind else {}
        if self.shape is None:
            example = _EXAMPLES.get(kind, 1.0)
            what = f"Nested lists of {self.dtype or 'numbers'}."
            return {"type": "array", "items": {}, "description": what, "examples": [[example, example]]}
        for size in reversed(self.shape):
            leaf = {"type": "array", "items": leaf}
            if size is not None:
                leaf |= {"minItems": size, "maxItems": size}
        return leaf


def base64_schema(schema: Any) -> CoreSchema:
    """Pydantic's `schema` of bytes, as base64 text in JSON."""
    return core_schema.no_info_before_validator_function(
        _read_bytes,
        schema,
        serialization=core_schema.plain_serializer_function_ser_schema(write_bytes, when_used="json"),
        metadata={"pydantic_js_functions": [lambda _schema, _handler: {"type": "string", "contentEncoding": "base64"}]},
    )


def plain(value: Any) -> Any:
    """`value` with numpy arrays and numbers, at any depth, as Python lists and numbers."""
    numpy = numpy_loaded()
    if numpy is None:
        return value
    match value:
        case dict():
            return {plain(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case numpy.ndarray() | numpy.generic():
            return value.tolist()
        case _:
            return value


def _read_bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise ValueError("must be base64 text")
    return read_base64(value)


def write_bytes(value: Any) -> str:
    """Bytes as base64 text. Raises ValueError for other types."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise ValueError("must be bytes")
    return base64.b64encode(value).decode()


def _cast(value: Any, dtype: str) -> np.ndarray[Any, Any]:
    """`value` as `dtype`, without casts that change the kind of number (1.5 to 1, text to number)."""
    import numpy as np

    array = np.asarray(value)
    wanted = np.dtype(dtype)
    if array.size and not np.can_cast(array.dtype, wanted, casting="same_kind"):
        exact = wanted.kind == "u" and array.dtype.kind == "i" and bool((array >= 0).all())
        if not exact:
            raise ValueError
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError
    with np.errstate(over="ignore"):  # overflow gives infinity, which is refused
        return array.astype(wanted, copy=False)


def _dtype(hint: Any) -> str | None:
    """The element type of an array's hint; None: any. Raises ValueError for an unsupported one."""
    numpy = numpy_loaded()
    args = get_args(hint)
    if not args or isinstance(args[0], TypeVar) or args[0] is Any:
        return None
    try:
        dtype = numpy.dtype(args[0])
    except TypeError:
        return None
    if dtype.kind not in _KINDS:
        raise ValueError(f"arrays of {dtype} have no JSON form")
    return str(dtype.name)


def _shape(hint: Any) -> tuple[int | None, ...] | None:
    args = get_args(hint)
    if get_origin(hint) is not tuple or args[1:] == (...,):
        return None
    return tuple(get_args(axis)[0] if get_origin(axis) is Literal else None for axis in args)
