"""Numpy arrays and raw bytes in JSON, for pydantic.

`NDArray[np.float32]` fixes the dtype; `np.ndarray[tuple[int, Literal[3]], np.dtype[np.uint8]]` the shape as well:
one argument an axis, a `Literal` where its length is fixed.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kaon.types.media import read_base64

if TYPE_CHECKING:
    import numpy as np


def numpy_loaded() -> Any:
    """The numpy module when the user's code has imported it, else None."""
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
        """The schema that the hint's arguments say."""
        match get_args(hint):
            case (shape, dtype):
                return cls(_dtype(dtype), _shape(shape))
            case _:
                return cls()

    def read(self, value: Any) -> np.ndarray[Any, Any]:
        """An array from nested lists, or an array as it is when it fits. Raises ValueError."""
        import numpy as np

        if not isinstance(value, (list, tuple, np.ndarray, int, float, bool)):
            raise ValueError("nested lists of numbers are needed")
        try:
            array = np.asarray(value) if self.dtype is None else _cast(value, self.dtype)
        except (TypeError, OverflowError, ValueError):
            raise ValueError(f"nested lists of one shape are needed, of {self.dtype or 'numbers'}") from None
        if array.dtype.kind not in "biufcSU":
            raise ValueError("nested lists of numbers are needed")
        if self.shape is not None and not self._fits(array.shape):
            raise ValueError(f"an array of shape {self._spelled()} is needed, this one is of shape {array.shape}")
        return array

    def write(self, value: Any) -> Any:
        """Nested lists. Raises ValueError when the array is another than the hint says."""
        return self.read(value).tolist()

    def _fits(self, shape: tuple[int, ...]) -> bool:
        want = self.shape or ()
        return len(want) == len(shape) and all(w in (None, s) for w, s in zip(want, shape, strict=True))

    def _spelled(self) -> str:
        return "(" + ", ".join("any" if n is None else str(n) for n in self.shape or ()) + ")"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kinds = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "S": "string", "U": "string"}
        leaf: dict[str, Any] = {}
        if self.dtype is not None and (numpy := numpy_loaded()):
            leaf = {"type": kinds.get(numpy.dtype(self.dtype).kind, "number")}
        if self.shape is None:
            return {"type": "array", "items": {}, "description": f"Nested lists of {self.dtype or 'numbers'}."}
        for size in reversed(self.shape):
            leaf = {"type": "array", "items": leaf}
            if size is not None:
                leaf |= {"minItems": size, "maxItems": size}
        return leaf


@dataclass(frozen=True)
class Base64Schema:
    """Bytes as base64 text in JSON; bytes as they are in Python."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _read_bytes, serialization=core_schema.plain_serializer_function_ser_schema(_write_bytes)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64"}


def plain(value: Any) -> Any:
    """`value` with numpy arrays and numbers, at any depth of containers, as Python's own."""
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
        raise ValueError("text in base64 is needed")
    return read_base64(value)


def _write_bytes(value: Any) -> str:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise ValueError("bytes are needed")
    return base64.b64encode(value).decode()


def _cast(value: Any, dtype: str) -> np.ndarray[Any, Any]:
    """`value` as `dtype`, refusing casts that change the kind of number (1.5 to 1, text to number)."""
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
    return array.astype(wanted, copy=False)


def _dtype(hint: Any) -> str | None:
    numpy = numpy_loaded()
    args = get_args(hint)
    if not args or isinstance(args[0], TypeVar) or args[0] is Any:
        return None
    try:
        return str(numpy.dtype(args[0]).name)
    except TypeError:
        return None


def _shape(hint: Any) -> tuple[int | None, ...] | None:
    args = get_args(hint)
    if get_origin(hint) is not tuple or args[1:] == (...,):
        return None
    return tuple(get_args(axis)[0] if get_origin(axis) is Literal else None for axis in args)
