"""Modules import each other in one direction: no cycles, not even for type checking, where a linter does not look."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other: one circle of each group of them."""
    found: list[list[str]] = []
    rest = {module: imported & graph.keys() for module, imported in graph.items()}
    while True:
        try:
            TopologicalSorter(rest).prepare()
        except CycleError as error:
            circle: list[str] = sorted(set(error.args[1]))
            found.append(circle)
            rest = {m: imported - set(circle) for m, imported in rest.items() if m not in circle}
        else:
            return found


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    names = frozenset(MODULES)
    found = circles({name: imports_of(file.read_text(), names) for name, file in MODULES.items()})
    assert found == []


def test_every_circle_is_found_also_one_for_types_only() -> None:
    sources = {
        "kaon.one": "import kaon.two",
        "kaon.two": "if TYPE_CHECKING:\n    from kaon import one",
        "kaon.three": "def late():\n    from kaon.four import x",
        "kaon.four": "from kaon import three, one",
    }
    graph = {name: imports_of(source, frozenset(sources)) for name, source in sources.items()}
    assert sorted(circles(graph)) == [["kaon.four", "kaon.three"], ["kaon.one", "kaon.two"]]
