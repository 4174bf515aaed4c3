"""Finds the services of a folder by their decorators, without importing anything. Tests are left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kaon.build.collecting import modules
from kaon.build.marks import name_of_service
from kaon.build.sources import find_target
from kaon.errors import BuildError

_TEST_FOLDERS = frozenset({"test", "tests"})
_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True)
class FoundService:
    """A class with `@kaon.service`."""

    target: str
    """'file.py:Class', relative to the folder."""
    name: str
    """The default name of its deployment."""


def find_services(folder: Path) -> list[FoundService]:
    """The services in a folder and below, by file and line. Raises `BuildError` for a file that is not valid Python."""
    found: list[FoundService] = []
    for path in modules(folder):
        if _is_test(PurePosixPath(path)) or not all(map(str.isidentifier, path.removesuffix(".py").split("/"))):
            continue
        for cls in _services_in(folder / path):
            target = f"{path}:{cls}"
            found.append(FoundService(target, name_of_service(find_target(target, folder))))
    return found


def _is_test(path: PurePosixPath) -> bool:
    is_named = path.name.startswith("test_") or path.stem.endswith("_test") or path.name == "conftest.py"
    return is_named or not _TEST_FOLDERS.isdisjoint(path.parts[:-1])


def _services_in(file: Path) -> Iterator[str]:
    """The names of the services that a module defines."""
    raw = file.read_bytes() if file.stat().st_size <= _BYTES_MAX else b""
    if b"kaon" not in raw or b"service" not in raw:
        return
    try:
        tree = ast.parse(raw, filename=file.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BuildError(f"{file} is not valid Python: {error}") from None
    names = set(_names_of_decorator(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(_dotted(each) in names for each in node.decorator_list):
            yield node.name


def _names_of_decorator(tree: ast.Module) -> Iterator[str]:
    """The names that a module has for `kaon.service`, by its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "kaon" or (alias.name.startswith("kaon.") and alias.asname is None):
                    yield f"{alias.asname or 'kaon'}.service"
        elif isinstance(node, ast.ImportFrom) and node.module == "kaon" and not node.level:
            yield from (alias.asname or alias.name for alias in node.names if alias.name == "service")


def _dotted(decorator: ast.expr) -> str:
    """'kaon.service' of `@kaon.service` and `@kaon.service(...)`; empty for other forms."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
