"""Patterns of a .gitignore have git's meaning, and none of them takes long."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.figures import examples

from kaon.sdk.ignore import deciding, parse

CHECK = ["check-ignore", "--verbose", "--non-matching", "--no-index", "-z", "--stdin"]
PIECES = ["a", "b", "ab", ".", "/", "*", "**", "?", "[ab]", "[!a]", "[a-c]", "[]a]", "\\*", "\\", " ", "**/"]
PIECES += ["/**", "!", "[", "#", "é"]
PIECES += ["[[:alpha:]]", "[[:no:]]", "[^-a]", "[a\\]b]", "[b-]", "***"]
patterns = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
names = st.sampled_from(["a", "b", "ab", "aba", "abc", "é", "a é", "*a", "b[", "]", "a.b"])
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def git_says(repository: Path, lines: list[str], asked: list[str]) -> list[str]:
    """The pattern that decides on each path, as git has it; empty: none."""
    (repository / ".gitignore").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [
            "git",
            "-c",
            "core.excludesFile=/dev/null",
            "check-ignore",
            "--verbose",
            "--non-matching",
            "--no-index",
            "-z",
            "--stdin",
        ],
        cwd=repository,
        input="\0".join(asked) + "\0",
        capture_output=True,
        text=True,
        check=False,
    )
    fields = done.stdout.split("\0")
    return [f"{fields[at + 1]}:{fields[at + 2]}" if fields[at] else "" for at in range(0, len(fields) - 1, 4)]


def we_say(lines: list[str], path: str) -> str:
    """The same by our own rules, going down folder by folder: what is in an ignored folder is ignored with it."""
    rules = parse(("\n".join(lines) + "\n").encode())
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth]).encode()
        rule = deciding(rules, here, depth < len(parts))
        if rule is not None and (depth == len(parts) or not rule.includes):
            return f"{rule.line}:{rule.text}"
    return ""


@settings(max_examples=examples(100))
@given(lines=st.lists(patterns, min_size=1, max_size=4), asked=st.lists(paths, min_size=20, max_size=20))
def test_patterns_decide_as_in_git(repository: Path, lines: list[str], asked: list[str]) -> None:
    assert [we_say(lines, path) for path in asked] == git_says(repository, lines, asked)


@settings(max_examples=examples(100))
@given(pattern=st.lists(st.sampled_from(["*", "a", "?", "**/", "*a", "/"]), min_size=30, max_size=120).map("".join))
def test_no_pattern_takes_long(pattern: str) -> None:
    rules = parse(pattern.encode())
    assert deciding(rules, b"a" * 200 + b"/" + b"a" * 50 + b"c", False) in (None, *rules)
