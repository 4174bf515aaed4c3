"""A marked method as a function of the instance, through decorators, `staticmethod`, `partialmethod`.

A wrapper by `functools.wraps` returns what it wraps: around a coroutine function it returns a coroutine without being a
coroutine function. So its kind is that of the outermost function in the chain that has one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Function: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A method, called with the instance and arguments by name."""

    function: Function
    is_async: bool
    """Whether it is a coroutine function or an async generator."""
    is_generator: bool


def is_method(value: Any) -> bool:
    """Whether a class's attribute is a method."""
    return inspect.isfunction(value) or isinstance(value, staticmethod | classmethod | functools.partialmethod)


def mark_of(value: Any, name: str) -> Any:
    """The attribute `name` of a method, set above or below `@staticmethod`; else None."""
    inner = getattr(value, "func", None) or getattr(value, "__func__", None)
    return getattr(value, name, None) or getattr(inner, name, None)


def method_of(value: Any, attribute: str) -> Method:
    """The method of a class's attribute."""
    function = _plain(value, attribute)
    kind = next((one for one in _links(function) if _is_async(one) or _is_generator(one)), function)
    is_async, is_generator = _is_async(kind), _is_generator(kind)
    if is_async and not is_generator and not inspect.iscoroutinefunction(function):
        function = _awaiting(function)
    return Method(function, is_async, is_generator)


def _links(function: Function) -> Iterator[Function]:
    """The function and those that it wraps, outermost first."""
    visited: set[int] = set()
    while id(function) not in visited:
        visited.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", function)


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_generator(function: Function) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _plain(value: Any, attribute: str) -> Function:
    match value:
        case staticmethod():
            alone = value.__func__
            return _named(lambda _self, /, **given: alone(**given), alone, attribute, 0, {})  # noqa: PLW0108 - it drops the instance
        case classmethod():
            of_class = value.__func__
            return _named(lambda self, /, **given: of_class(type(self), **given), of_class, attribute, 1, {})
        case functools.partialmethod():
            whole, first, more = value.func, value.args, value.keywords
            return _named(
                lambda self, /, **given: whole(self, *first, **{**more, **given}),
                whole,
                attribute,
                1 + len(first),
                more,
            )
        case _:
            return value  # type: ignore[no-any-return]


def _named(call: Function, inner: Function, attribute: str, drop: int, keywords: dict[str, Any]) -> Function:
    """`call` with the name, docstring and signature of `inner`, without its first `drop` parameters and `keywords`."""
    functools.update_wrapper(call, inner)
    call.__name__ = attribute
    call.__qualname__ = f"{inner.__qualname__.rpartition('.')[0]}.{attribute}".lstrip(".")
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    rest = [p for p in list(inspect.signature(inner).parameters.values())[drop:] if p.name not in keywords]
    call.__signature__ = inspect.Signature([own, *rest])  # type: ignore[attr-defined]
    return call


def _awaiting(function: Function) -> Function:
    """A coroutine function from one that returns a coroutine."""

    @functools.wraps(function)
    async def call(self: Any, /, **given: Any) -> Any:
        answer = function(self, **given)
        return await answer if inspect.isawaitable(answer) else answer

    return call
