"""One name, one meaning: decision 10 in docs/explanation/decisions."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaon

SOURCE = Path(kaon.__file__).parent
WORDS = {"course", "dials", "door", "doors", "guesses", "mind", "minds", "opinions", "senses", "sighting", "sightings"}
WORDS |= {"anew", "anybody", "heard", "knew", "nobody", "relive", "said", "somebody", "stood", "told", "whoever"}
WORDS |= {"wish", "wishes"}
"""In no name of the source, whatever its case: of a module, a class, a function, a variable."""


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


def _names(file: Path) -> Iterator[tuple[str, int]]:
    """All names in a file, with their lines; its own name has line 0."""
    yield file.stem, 0
    for token in tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.string, token.start[0]


def _words(name: str) -> set[str]:
    """The words of `snake_case` and `CamelCase`, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_no_name_must_be_translated() -> None:
    found = {
        f"{file.relative_to(SOURCE)}:{line}: {name}"
        for file in sorted(SOURCE.rglob("*.py"))
        for name, line in _names(file)
        if _words(name) & WORDS
    }
    assert found == set()


@pytest.mark.parametrize(("name", "words"), [("_told_once", {"told", "once"}), ("NobodyWaits", {"nobody", "waits"})])
def test_a_name_is_split_into_its_words(name: str, words: set[str]) -> None:
    assert _words(name) == words
