"""Reads arguments of `@kaon.service(...)` and `@kaon.job(...)` from the source text, before it can be imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kaon.build.sources import Target
from kaon.errors import BuildError, InvalidInput
from kaon.sdk.service import default_name

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def requirements_of(target: Target) -> list[str]:
    """The `requirements=` of the class or function, and of all jobs of its module, which share its environment.

    Those of a function include the services of its module, which are imported with it. Raises `BuildError` when they
    are not literal lists.
    """
    tree = _tree(target)
    definition = _definition(tree, target)
    marked = [definition, *_jobs(tree)]
    if not isinstance(definition, ast.ClassDef):
        marked += [node for node in tree.body if isinstance(node, ast.ClassDef)]
    try:
        found = [
            str(text).strip()
            for node in marked
            for value in _arguments(node, "requirements")
            for text in ast.literal_eval(value)
        ]
    except (ValueError, TypeError):
        raise BuildError(
            f"The requirements of {target.cls} are not a literal list.",
            hint="Write them as a plain list of strings: they are read before the class is imported.",
        ) from None
    return list(dict.fromkeys(found))


def allows_pickle(target: Target) -> bool:
    """Whether the class has `allow_pickle=True`. Raises `BuildError` unless it is a literal."""
    values = _arguments(_definition(_tree(target), target), "allow_pickle")
    if not all(isinstance(value, ast.Constant) and isinstance(value.value, bool) for value in values):
        raise BuildError(f"allow_pickle of {target.cls} is not True or False.", hint="Write it as allow_pickle=True.")
    return any(isinstance(value, ast.Constant) and value.value is True for value in values)


def name_of_service(target: Target) -> str:
    """The service's `name=`, else the default name of the class.

    Raises `BuildError`, and `InvalidInput` for a function: it is a job, which is run and not deployed.
    """
    definition = _definition(_tree(target), target)
    if not isinstance(definition, ast.ClassDef):
        raise jobs_only(f"{target.file.name}:{target.cls}")
    for value in _arguments(definition, "name"):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return default_name(target.cls)


def jobs_only(target: str) -> InvalidInput:
    """The error for deploying what has jobs and no service."""
    return InvalidInput(f"{target} is a job, which is run and not deployed.", hint=f"Run: kaon job run {target}")


def _tree(target: Target) -> ast.Module:
    try:
        return ast.parse(target.file.read_bytes(), filename=target.file.name)
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{target.file.name} is not valid Python: {error}") from None


def _definition(tree: ast.Module, target: Target) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)) and node.name == target.cls:
            return node
    raise BuildError(f"{target.file.name} has no class or function {target.cls!r} at its top level.")


def _jobs(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions and methods below `@kaon.job(...)`."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body):
        if isinstance(node, _FUNCTIONS) and any(_called(one) == "job" for one in node.decorator_list):
            yield node


def _called(decorator: ast.expr) -> str:
    """The last part of the name of a called decorator: 'job' of `@kaon.job(...)`."""
    function = decorator.func if isinstance(decorator, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _arguments(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, keyword: str) -> list[ast.expr]:
    """The values of a keyword argument of a definition's decorators."""
    calls = (decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call))
    return [argument.value for call in calls for argument in call.keywords if argument.arg == keyword]
