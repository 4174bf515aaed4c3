"""One name, one meaning: decision 10 in docs/explanation/decisions."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import kaon

SOURCE = Path(kaon.__file__).parent
WORDS = {"course", "dials", "door", "doors", "guesses", "mind", "minds", "opinions", "senses", "sighting", "sightings"}
WORDS |= {"stood", "wish", "wishes"}
"""Not the names of modules or public classes, whatever the case."""


def _defined() -> Iterator[tuple[str, Path]]:
    """The public classes, and the types that another name is given, of each module."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield node.name, file
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id[:1].isupper() and not target.id.isupper():
                        yield target.id, file


def test_no_public_name_of_a_type_is_used_twice() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for name, file in _defined():
        if not name.startswith("_"):
            homes[name].append(str(file.relative_to(SOURCE)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_modules_and_classes_have_no_names_that_must_be_translated() -> None:
    modules = {file.stem for file in SOURCE.rglob("*.py")}
    classes = {name for name, _ in _defined()}
    assert {name for name in modules | classes if name.lower().lstrip("_") in WORDS} == set()
