"""One value of any of Kaon's models with every field filled, nested models included: for tests over all of them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from kaon.types.kinds import KINDS

M = TypeVar("M", bound=BaseModel)
PARTS = {kind.name: (kind.spec, kind.status) for kind in KINDS.values() if kind.stored}
"""Stored kind -> the types of its spec and its status."""
Place = tuple[str | int, ...]

_LEFT_OUT: dict[str, set[str]] = {
    "Shadow": {"revision"},
    "TuningRequest": {"mode", "apply", "undo", "set"},
    "KeyRequest": {"cloud", "everywhere"},
}
"""Of models that take one of several fields: those that are left as they are."""

_CANDIDATES = (
    *("web", "0" * 12, "0" * 64, "sha256:" + "0" * 64, "unix:/run/a.sock", "GET", "/web", "app:Web", "3.11"),
    *("08:00", "https://app.example", "app.example", "APP_ENV", "max_batch", "text/plain"),
    *(1, 0.5, 30, 2**24),
)


def full(model: type[M]) -> M:
    """A value of `model` in which no optional part is missing."""
    members: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in _LEFT_OUT.get(model.__name__, ()):
            continue
        default = field.get_default(call_default_factory=True)
        if not field.is_required() and default not in (None, (), {}) and not isinstance(default, BaseModel):
            continue
        members[name] = sample(field.annotation, tuple(field.metadata))
    return model(**members)


def sample(annotation: Any, metadata: tuple[Any, ...] = ()) -> Any:
    """A value of any type that models use, with these constraints."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return sample(arguments[0], (*arguments[1:], *metadata))
    if origin in (Union, types.UnionType):
        return sample(next(a for a in arguments if a is not type(None)), metadata)
    if origin in (tuple, list):
        kinds = arguments if origin is tuple and arguments[-1] is not Ellipsis else arguments[:1]
        return tuple(sample(kind) for kind in kinds)
    if origin is dict:
        return {sample(arguments[0]): sample(arguments[1])}
    if origin is Literal:
        return arguments[0]
    if annotation is Any:
        return {"any": 1}
    if annotation is SecretStr:
        return SecretStr("secret")
    if annotation is bool:
        return True
    if issubclass(annotation, Enum):
        return next(iter(annotation))
    if issubclass(annotation, BaseModel):
        return full(annotation)
    return _first_that_fits(annotation, metadata, _CANDIDATES)


def _first_that_fits(annotation: Any, metadata: tuple[Any, ...], candidates: Any) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[annotation, *metadata] if metadata else annotation)
    for candidate in candidates:
        try:
            return adapter.validate_python(candidate, strict=True)
        except ValidationError:
            continue
    raise AssertionError(f"no candidate is a {annotation} with {metadata}: add one")


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Where in a value a model is, itself included."""
    match value:
        case BaseModel():
            yield at
            for name in type(value).model_fields:
                yield from places(getattr(value, name), (*at, name))
        case tuple() | list():
            for number, item in enumerate(value):
                yield from places(item, (*at, number))
        case dict():
            for key, item in value.items():
                yield from places(item, (*at, key))


def with_more(document: Any, *where: Place) -> Any:
    """A JSON document with one more field at each place, as a newer Kaon would write it. Changes the document."""
    for place in where:
        here = document
        for step in place:
            here = here[step if isinstance(here, list) else str(step)]
        here["of_a_newer_kaon"] = 1
    return document
