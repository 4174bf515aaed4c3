"""The rules of a .gitignore as git implements them, in linear time for every pattern.

A pattern is compiled to a small nondeterministic automaton that reads each byte of a path once: its set of states is
one integer. A translation to regular expressions would backtrack from each star, which takes years for
`*a*a*a*a*a*b`. Paths are bytes, as in git.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaon.errors import BuildError

FILE_NAME = ".gitignore"
_BYTES_MAX, _RULES_MAX = 256 * 1024, 2_000
_SPECIAL = frozenset(b"*?[\\")
_POSIX: dict[bytes, Callable[[int], bool]] = {
    b"alnum": lambda b: b < 128 and chr(b).isalnum(),
    b"alpha": lambda b: b < 128 and chr(b).isalpha(),
    b"blank": lambda b: b in b" \t",
    b"cntrl": lambda b: b < 32 or b == 127,
    b"digit": lambda b: 48 <= b <= 57,
    b"graph": lambda b: 32 < b < 127,
    b"lower": lambda b: 97 <= b <= 122,
    b"print": lambda b: 32 <= b < 127,
    b"punct": lambda b: 32 < b < 127 and not chr(b).isalnum(),
    b"space": lambda b: b in b" \t\n\r\v\f",
    b"upper": lambda b: 65 <= b <= 90,
    b"xdigit": lambda b: b in b"0123456789abcdefABCDEF",
}


@dataclass(frozen=True)
class IgnoreRule:
    """One line of a file of patterns."""

    text: str
    line: int
    """Its number in the file, from 1."""
    includes: bool
    """Starts with '!': re-includes what an earlier line excluded."""
    folders_only: bool
    names_only: bool
    """It has no slash, so it is compared with the last part of a path, at any depth."""
    matcher: Callable[[bytes], bool]


def rules_of(folder: Path) -> list[IgnoreRule]:
    """The rules of the folder's .gitignore; empty without one. Raises `BuildError` when it is too long."""
    file = folder / FILE_NAME
    if not file.is_file():
        return []
    with file.open("rb") as opened:
        raw = opened.read(_BYTES_MAX + 1)
    found = parse(raw) if len(raw) <= _BYTES_MAX else []
    if len(raw) > _BYTES_MAX or len(found) > _RULES_MAX:
        raise BuildError(
            f"{file} has more than {_RULES_MAX} patterns or {_BYTES_MAX // 1024} KiB.",
            hint="List folders instead of the files in them.",
        )
    return found


def parse(raw: bytes) -> list[IgnoreRule]:
    """The rules of a file's content, in order."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = (rule(line, number) for number, line in enumerate(lines, start=1))
    return [each for each in found if each is not None]


def deciding(rules: Sequence[IgnoreRule], path: bytes, is_folder: bool) -> IgnoreRule | None:
    """The last rule that matches `path`, which is relative to the folder of the rules."""
    name = path.rpartition(b"/")[2]
    for each in reversed(rules):
        if (is_folder or not each.folders_only) and each.matcher(name if each.names_only else path):
            return each
    return None


def rule(line: bytes, number: int) -> IgnoreRule | None:
    """The rule of a line; None for an empty line or a comment."""
    if line.startswith(b"#"):
        return None
    pattern = _without_spaces(line.removesuffix(b"\r"))
    text = pattern.decode(errors="replace")
    includes = pattern.startswith(b"!")
    pattern = pattern.removeprefix(b"!") if includes else pattern
    folders_only = pattern.endswith(b"/")
    pattern = pattern[:-1] if folders_only else pattern
    if not pattern:
        return None
    names_only = b"/" not in pattern
    return IgnoreRule(text, number, includes, folders_only, names_only, matcher(pattern.removeprefix(b"/")))


def _without_spaces(line: bytes) -> bytes:
    """`line` without trailing spaces, except an escaped one."""
    end = at = 0
    while at < len(line):
        if line[at] == ord("\\"):
            if at + 1 == len(line):
                return line
            at += 1
            end = at + 1
        elif line[at] != ord(" "):
            end = at + 1
        at += 1
    return line[:end]


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """A function that tells whether a whole path matches `pattern`, in the syntax of .gitignore."""
    literal = next((at for at, byte in enumerate(pattern) if byte in _SPECIAL), len(pattern))
    rest = pattern[literal:]
    if not rest:
        return pattern.__eq__
    if pattern.startswith(b"*.") and not _SPECIAL.intersection(pattern[1:]) and b"/" not in pattern:
        ending = pattern[1:]
        return lambda path: path.endswith(ending) and b"/" not in path
    automaton = _automaton(rest)
    if automaton is None:
        return lambda path: False
    head, match = pattern[:literal], automaton.matches
    return lambda path: path.startswith(head) and match(path[literal:])


class _Automaton:
    """States as bits: bit n means "the first n steps are matched"."""

    def __init__(self) -> None:
        self.size = 0
        self._takes = [0] * 256
        """By byte: the steps that consume it and are complete."""
        self._keeps = [0] * 256
        """By byte: the steps (stars) that consume it and continue."""
        self._passes = 0
        """Steps that may be skipped: stars and gates."""
        self._gates = 0
        """Steps before a `**/`, where the stars and their slash may be skipped together."""

    def add_set(self, members: Sequence[int]) -> None:
        for byte in members:
            self._takes[byte] |= 1 << self.size
        self.size += 1

    def add_gate(self) -> None:
        self._passes |= 1 << self.size
        self._gates |= 1 << self.size
        self.size += 1

    def add_star(self, *, over_slashes: bool) -> None:
        bit = 1 << self.size
        for byte in range(256):
            if over_slashes or byte != ord("/"):
                self._keeps[byte] |= bit
        self._passes |= bit
        self.size += 1

    def matches(self, text: bytes) -> bool:
        states = self._closed(1)
        for byte in text:
            states = self._closed(((states & self._takes[byte]) << 1) | (states & self._keeps[byte]))
            if not states:
                return False
        return bool(states >> self.size & 1)

    def _closed(self, states: int) -> int:
        """With the states that are reached without a byte."""
        while True:
            more = states | (states & self._passes) << 1 | (states & self._gates) << 3
            if more == states:
                return states
            states = more


def _automaton(pattern: bytes) -> _Automaton | None:
    """None when the pattern is malformed and so matches nothing."""
    made, at, end = _Automaton(), 0, len(pattern)
    while at < end:
        byte = pattern[at]
        if byte == ord("*"):
            at = _star(made, pattern, at)
        elif byte == ord("["):
            members, at = _class(pattern, at + 1)
            if at < 0:
                return None
            made.add_set([member for member in members if member != ord("/")])
        elif byte == ord("?"):
            made.add_set([member for member in range(256) if member != ord("/")])
            at += 1
        else:
            at += byte == ord("\\")
            if at >= end:
                return None
            made.add_set([pattern[at]])
            at += 1
    return made


def _star(made: _Automaton, pattern: bytes, at: int) -> int:
    """Add the run of stars at `at`; returns the position after it."""
    begin = at
    while at < len(pattern) and pattern[at] == ord("*"):
        at += 1
    rest = pattern[at:]
    alone = (begin == 0 or pattern[begin - 1] == ord("/")) and (not rest or rest.startswith((b"/", b"\\/")))
    is_double = at - begin > 1 and alone
    if is_double and rest.startswith(b"/"):
        made.add_gate()
    made.add_star(over_slashes=is_double)
    return at


def _class(pattern: bytes, at: int) -> tuple[set[int], int]:
    """The members of the bracket expression that starts before `at`, and the position after it; -1 without an end."""
    members: set[int] = set()
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    before, first = -1, True
    while True:
        if at >= len(pattern):
            return set(), -1
        byte = pattern[at]
        if byte == ord("]") and not first:
            break
        first = False
        following = pattern[at + 1 : at + 2]
        if byte == ord("\\"):
            at += 1
            if not following:
                return set(), -1
            before = following[0]
            members.add(before)
        elif byte == ord("-") and before >= 0 and following not in (b"", b"]"):
            at += 1 + (following == b"\\")
            if at >= len(pattern):
                return set(), -1
            members.update(range(before, pattern[at] + 1))
            before = -1
        elif byte == ord("[") and following == b":":
            closed = pattern.find(b"]", at + 2)
            if closed < 0:
                return set(), -1
            if closed > at + 2 and pattern[closed - 1] == ord(":"):
                kind = _POSIX.get(pattern[at + 2 : closed - 1])
                if kind is None:
                    return set(), -1
                members.update(filter(kind, range(256)))
                at, before = closed, -1
            else:
                before = byte
                members.add(byte)
        else:
            before = byte
            members.add(byte)
        at += 1
    return (set(range(256)) - members if negated else members), at + 1
