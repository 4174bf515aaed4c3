"""Modules import each other in one direction: no cycles, not even for type checking, where a linter does not look."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kaon

ROOT = Path(kaon.__file__).parent.parent
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in (ROOT / "kaon").rglob("*.py")
}


def imports_of(source: str, modules: frozenset[str]) -> set[str]:
    """Modules of Kaon that a source names in any import statement, wherever it is in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
    return found & modules


def cycle_of(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


@pytest.mark.parametrize("package", ["kaon.runtime", "kaon.sdk", "kaon.types", "kaon.laws", "kaon.client"])
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    names = frozenset(MODULES)
    graph = {name: imports_of(file.read_text(), names) for name, file in MODULES.items() if name.startswith(package)}
    assert cycle_of(graph) == []


def test_a_circle_is_found_also_when_it_is_for_types_only() -> None:
    names = frozenset({"kaon.one", "kaon.two"})
    one, two = "import kaon.two", "if TYPE_CHECKING:\n    from kaon import one"
    assert cycle_of({"kaon.one": imports_of(one, names), "kaon.two": imports_of(two, names)})
