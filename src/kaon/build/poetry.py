"""Converts Poetry's `[tool.poetry.dependencies]` to requirements in pip's syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kaon.build.sources import table_of
from kaon.errors import BuildError

_HINT = "Write it to requirements.txt instead: poetry export -f requirements.txt -o requirements.txt"


def requirements_of(pyproject: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """One line for each dependency that is not optional. Raises `BuildError` for one that cannot be converted."""
    tools = table_of(pyproject, "tool", folder)
    for name, dependency in table_of(table_of(tools, "poetry", folder), "dependencies", folder).items():
        if name != "python":
            yield from _lines(name, dependency)


def _lines(name: str, dependency: Any) -> Iterator[str]:
    match dependency:
        case str():
            yield f"{name}{bounds(dependency)}"
        case {"optional": True}:
            return
        case {"path": str(path)}:
            yield f"./{path}"
        case {"version": str(version)}:
            extras = f"[{','.join(dependency['extras'])}]" if dependency.get("extras") else ""
            marker = f" ; {dependency['markers']}" if dependency.get("markers") else ""
            yield f"{name}{extras}{bounds(version)}{marker}"
        case _:
            raise BuildError(f"Poetry's dependency {name!r} cannot be locked.", hint=_HINT)


def bounds(version: str) -> str:
    """A version of Poetry's in pip's syntax: '^1.2' is '>=1.2,<2', '~1.2' is '>=1.2,<1.3'. Pure."""
    return ",".join(filter(None, (_bound(part.strip()) for part in version.split(","))))


def _bound(text: str) -> str:
    match = re.fullmatch(r"([\^~])(\d+(?:\.\d+)*)", text)
    if match is None:
        return "" if text == "*" else f"=={text}" if text[:1].isdigit() else text.replace(" ", "")
    numbers = [int(number) for number in match.group(2).split(".")]
    if match.group(1) == "~":
        kept = min(2, len(numbers))
    else:
        kept = next((at for at, number in enumerate(numbers, start=1) if number), len(numbers))
    upper = [*numbers[: kept - 1], numbers[kept - 1] + 1]
    return f">={match.group(2)},<{'.'.join(map(str, upper))}"
