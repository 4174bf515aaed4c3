"""What no test does: sleep, measure how long something took and fail by it, or reach into what is private."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import LONGEST_FIRST

TESTS = Path(__file__).parents[1]
SERVICES = TESTS / "e2e/services"
"""What is deployed there is slow on purpose."""
FILES = sorted(set(TESTS.rglob("*.py")) - {TESTS / "waiting.py"} - set(SERVICES.glob("*.py")))
CLOCKS = {"monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns", "time_ns"}
PRIVATE = {
    "integration/api/test_api.py": 1,
    "integration/api/test_api_live.py": 5,
    "integration/api/test_api_misuse.py": 1,
    "integration/api/world.py": 1,
    "integration/edge/test_edge_process.py": 1,
    "integration/test_made_again.py": 1,
    "unit/build/test_environments.py": 1,
    "unit/cli/test_shared.py": 4,
    "unit/client/test_exchange.py": 1,
    "unit/control/test_advising.py": 1,
    "unit/examples/test_shop_services.py": 1,
    "unit/runtime/test_bodies.py": 1,
    "unit/runtime/test_fast_path.py": 2,
    "unit/runtime/test_knobs.py": 9,
    "unit/runtime/test_overload.py": 4,
    "unit/store/test_snapshot.py": 3,
    "unit/test_guesses.py": 1,
}
"""How often a file reaches into what is private. No new file, and no larger number."""


def found_by(look: Callable[[ast.AST], list[int]]) -> dict[str, list[int]]:
    """By file, the lines that `look` finds."""
    found = {str(file.relative_to(TESTS)): look(ast.parse(file.read_text())) for file in FILES}
    return {name: lines for name, lines in found.items() if lines}


def calls(tree: ast.AST, modules: set[str], names: set[str]) -> Iterator[ast.Call]:
    """Calls of `module.name()`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                if module in modules and name in names:
                    yield node


def sleeps(tree: ast.AST) -> list[int]:
    """The lines that sleep, or import a `sleep` to do so."""
    imported = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module in ("time", "asyncio")
        and any(alias.name == "sleep" for alias in node.names)
    ]
    return imported + [call.lineno for call in calls(tree, {"time", "asyncio"}, {"sleep"})]


def durations(tree: ast.AST) -> list[int]:
    """The lines that assert how long something took: by a difference of clocks, at once or by a name."""

    def measures(node: ast.AST) -> bool:
        return any(
            isinstance(one, ast.BinOp) and isinstance(one.op, ast.Sub) and any(calls(one, {"time"}, CLOCKS))
            for one in ast.walk(node)
        )

    found = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        took = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and measures(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Assert):
                named = any(isinstance(one, ast.Name) and one.id in took for one in ast.walk(node.test))
                if named or measures(node.test):
                    found.append(node.lineno)
    return found


def private(tree: ast.AST) -> list[int]:
    """The lines that reach into a private attribute of something else than their own class."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def test_files_that_are_begun_first_exist() -> None:
    assert [name for name in LONGEST_FIRST if not (TESTS / name).exists()] == []


def test_no_test_sleeps() -> None:
    assert found_by(sleeps) == {}, "wait for a condition by tests.waiting"


def test_no_test_fails_since_something_took_long() -> None:
    assert found_by(durations) == {}, "check figures by tests.figures: `make chaos` alone fails by them"


def test_no_more_tests_reach_into_what_is_private() -> None:
    more = {name: lines for name, lines in found_by(private).items() if len(lines) > PRIVATE.get(name, 0)}
    assert more == {}


BAD = """
import time, asyncio
from time import sleep

def test_a():
    begun = time.monotonic()
    time.sleep(1)
    assert time.monotonic() - begun < 2
    took = time.monotonic() - begun
    assert took < 2
    assert thing._hidden

async def test_b():
    await asyncio.sleep(0)
"""


def test_what_is_forbidden_is_found() -> None:
    tree = ast.parse(BAD)
    assert (sorted(sleeps(tree)), durations(tree), private(tree)) == ([3, 7, 14], [8, 10], [11])
