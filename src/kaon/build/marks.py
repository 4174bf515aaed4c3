"""Reads arguments of `@kaon.service(...)` from the source text, before the class can be imported."""

from __future__ import annotations

import ast

from kaon.build.sources import Target
from kaon.errors import BuildError
from kaon.sdk.service import default_name


def requirements_of(target: Target) -> list[str]:
    """The class's `requirements=`. Raises `BuildError` when they are not a literal list."""
    try:
        return [str(text).strip() for value in _arguments(target, "requirements") for text in ast.literal_eval(value)]
    except (ValueError, TypeError):
        raise BuildError(
            f"The requirements of {target.cls} are not a literal list.",
            hint="Write them as a plain list of strings: they are read before the class is imported.",
        ) from None


def allows_pickle(target: Target) -> bool:
    """Whether the class has `allow_pickle=True`. Raises `BuildError` unless it is a literal."""
    values = _arguments(target, "allow_pickle")
    if not all(isinstance(value, ast.Constant) and isinstance(value.value, bool) for value in values):
        raise BuildError(f"allow_pickle of {target.cls} is not True or False.", hint="Write it as allow_pickle=True.")
    return any(isinstance(value, ast.Constant) and value.value is True for value in values)


def name_of_service(target: Target) -> str:
    """The service's `name=`, else the default name of the class. Raises `BuildError`."""
    for value in _arguments(target, "name"):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return default_name(target.cls)


def _arguments(target: Target, keyword: str) -> list[ast.expr]:
    """The values of a keyword argument of the class's decorators."""
    try:
        tree = ast.parse(target.file.read_bytes(), filename=target.file.name)
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{target.file.name} is not valid Python: {error}") from None
    definition = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == target.cls), None)
    if definition is None:
        raise BuildError(f"{target.file.name} has no class {target.cls!r} at its top level.")
    calls = (decorator for decorator in definition.decorator_list if isinstance(decorator, ast.Call))
    return [argument.value for call in calls for argument in call.keywords if argument.arg == keyword]
