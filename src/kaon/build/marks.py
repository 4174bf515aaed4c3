"""What `@kaon.service(...)` above a class says, read from the source text: the class cannot be imported yet."""

from __future__ import annotations

import ast

from kaon.build.sources import Target
from kaon.errors import BuildError
from kaon.sdk.service import default_name


def requirements_of(target: Target) -> list[str]:
    """The packages that the class needs. Raises `BuildError` when they cannot be read from the text."""
    try:
        return [str(text).strip() for value in _words(target, "requirements") for text in ast.literal_eval(value)]
    except (ValueError, TypeError):
        raise BuildError(
            f"The requirements of {target.cls} are computed.",
            hint="Write them as a plain list of strings: they are read before the class can be imported.",
        ) from None


def name_of_service(target: Target) -> str:
    """The service's name as far as the text tells it: that of the mark, else the class's own. Raises `BuildError`."""
    for value in _words(target, "name"):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return default_name(target.cls)


def _words(target: Target, word: str) -> list[ast.expr]:
    """The values of a keyword argument of the class's marks."""
    try:
        tree = ast.parse(target.file.read_bytes(), filename=target.file.name)
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{target.file.name} is not valid Python: {error}") from None
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == target.cls), None)
    if found is None:
        raise BuildError(f"{target.file.name} has no class {target.cls!r} at its top level.")
    calls = (mark for mark in found.decorator_list if isinstance(mark, ast.Call))
    return [keyword.value for call in calls for keyword in call.keywords if keyword.arg == word]
