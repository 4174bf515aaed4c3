"""The meaning of type hints on the wire.

Here is decided where a parameter may be: in a query, in a form, as the whole body. `kaon.sdk.codec` reads and writes
its values.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import ipaddress
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import AnyUrl, BaseModel, SecretStr
from typing_extensions import TypeAliasType, TypedDict, is_typeddict

from kaon.errors import ConfigError
from kaon.sdk import pydantic_versions
from kaon.types.media import File

_SCALARS = (
    str,
    bool,
    int,
    float,
    enum.Enum,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
    SecretStr,
    AnyUrl,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    types.NoneType,
)
_ALIASES = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
_LISTS = (list, set, frozenset, tuple)
_ITERATORS = (Iterator, Generator, AsyncIterator, AsyncGenerator)
_STREAMS = (*_ITERATORS, Iterable, AsyncIterable)


def resolved(function: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The function's hints as objects; `names` are the local names where it is defined. Raises ConfigError."""
    try:
        return typing.get_type_hints(function, localns=dict(names), include_extras=True)
    except Exception as error:
        raise ConfigError(
            f"A type hint of `{function.__qualname__}` cannot be read: {error}",
            hint="Define or import the type above the class, outside `if TYPE_CHECKING:`.",
        ) from error


def bare(hint: Any) -> Any:
    """`hint` without `Annotated`, with `NewType` and type aliases resolved."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, _ALIASES):
            hint = hint.__value__
        elif isinstance(alias := get_origin(hint), _ALIASES):
            hint = _filled(alias, get_args(hint))
        else:
            return hint


def _filled(alias: Any, args: tuple[Any, ...]) -> Any:
    """The type that a generic alias stands for with these arguments, such as numpy's `NDArray[np.float32]`."""
    by_parameter = dict(zip(alias.__type_params__, args, strict=True))
    parameters = getattr(alias.__value__, "__parameters__", ())
    return alias.__value__[tuple(by_parameter[each] for each in parameters)] if parameters else alias.__value__


def is_scalar(hint: Any) -> bool:
    """Whether values of this type are written as one text."""
    hint = bare(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType):
        return all(is_scalar(arm) for arm in get_args(hint))
    return isinstance(hint, type) and origin is None and issubclass(hint, _SCALARS)


def listed(hint: Any) -> Any:
    """The item type of a list, set or variable tuple; None for other types."""
    hint = bare(hint)
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        arms = [arm for arm in args if arm is not types.NoneType]
        return listed(arms[0]) if len(arms) == 1 else None
    if origin not in _LISTS or (origin is tuple and args[1:] != (...,)):
        return None
    return args[0] if args else Any


def arms(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    hint = bare(hint)
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def may_be_none(hint: Any) -> bool:
    """Whether None is one of the values."""
    return types.NoneType in arms(hint)


def is_record(hint: Any) -> bool:
    """Whether the type is a pydantic model, a dataclass or a TypedDict: as the only parameter it is the whole body."""
    hint = bare(hint)
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind) or is_typeddict(kind))


def is_file(hint: Any) -> bool:
    """Whether values are `kaon.File`s or subclasses."""
    hint = bare(hint)
    if get_origin(hint) in (Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not types.NoneType]
        return bool(arms) and all(is_file(arm) for arm in arms)
    return isinstance(hint, type) and issubclass(hint, File)


def is_websocket(hint: Any) -> bool:
    """Whether the hint is `kaon.WebSocket`, without importing it."""
    module = sys.modules.get("starlette.websockets")
    return module is not None and isinstance(hint, type) and issubclass(hint, module.WebSocket)


def yielded(hint: Any) -> Any:
    """The type of items of a generator with this return hint."""
    args = get_args(hint) if get_origin(hint) in _STREAMS else ()
    return args[0] if args else Any


def split_stream(hint: Any) -> tuple[Any, Any]:
    """(type of one answer, type of a stream's items) of a method that returns either; None: never."""
    items = [arm for arm in arms(hint) if (get_origin(arm) or arm) in _ITERATORS]
    rest = tuple(arm for arm in arms(hint) if arm not in items)
    if not items:
        return hint, None
    return (Union[rest] if rest else None), Union[tuple(yielded(arm) for arm in items)]  # noqa: UP007


def modern(hint: Any) -> Any:
    """`hint` with each `typing.TypedDict`, which pydantic refuses on Python 3.11, as one of typing_extensions."""
    if is_typeddict(hint):
        return _modern(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(modern(args[0]), *args[1:])]
    if origin is Literal or not args:
        if pydantic_versions.MISREADS_DATACLASSES and isinstance(hint, type) and is_dataclass(hint):
            _resolve_fields(hint)
        return hint
    new = tuple(arg if arg is ... or isinstance(arg, list) else modern(arg) for arg in args)
    if new == args:
        return hint
    return Union[new] if origin in (Union, types.UnionType) else origin[new]  # noqa: UP007


def _modern(hint: Any) -> Any:
    """A `typing.TypedDict` of Python 3.11, which pydantic refuses, as one of typing_extensions."""
    if sys.version_info >= (3, 12) or type(hint).__module__ != "typing":
        return hint
    fields = {}
    for name, kind in typing.get_type_hints(hint, include_extras=True).items():
        is_marked = get_origin(kind) in (Required, NotRequired)
        fields[name] = kind if is_marked else (Required if name in hint.__required_keys__ else NotRequired)[kind]
    return TypedDict(hint.__name__, fields)  # type: ignore[operator]


def _resolve_fields(kind: type) -> None:
    """Replace postponed annotations of a dataclass, and of those in it, by their types. Raises ConfigError."""
    written = [field for field in kind.__dataclass_fields__.values() if isinstance(field.type, str)]  # type: ignore[attr-defined]
    if not written:
        return
    try:
        found = typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"The installed pydantic cannot read the annotations of `{kind.__qualname__}`: {error}.",
            hint="Require pydantic>=2.6, define the class at the top of its module, or write its annotations without "
            "`from __future__ import annotations`.",
        ) from error
    for field in written:
        field.type = found[field.name]
    for each in found.values():
        modern(each)


def spelled(hint: Any) -> str:
    """The type as written in source."""
    if hint is inspect.Parameter.empty or hint is Any:
        return "any"
    if isinstance(hint, type) and not get_args(hint):
        return "None" if hint is types.NoneType else hint.__name__
    if get_origin(hint) is Annotated:
        return spelled(bare(hint))
    return str(hint).replace("typing.", "").replace("NoneType", "None")
