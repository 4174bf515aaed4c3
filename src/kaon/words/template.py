"""A text with named placeholders, as a catalogue holds it: `No service {name}.` Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}|[^{}]+|[{}]")
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True)
class TextTemplate:
    """An English text; its `id` is the text itself, in which `{name}` stands for a value and `{{` for a brace."""

    id: str

    @cached_property
    def _split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        literals, names = [""], []
        for piece in _PIECE.finditer(self.id):
            if piece.group(1):
                names.append(piece.group(1))
                literals.append("")
            else:
                literals[-1] += _BRACES.get(piece.group(), piece.group())
        return tuple(literals), tuple(names)

    @property
    def literals(self) -> tuple[str, ...]:
        """The fixed parts; a value stands between each two of them."""
        return self._split[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders, in order; one that occurs twice has the same value at both places."""
        return self._split[1]

    def render(self, values: Mapping[str, str]) -> str:
        """The sentence with these values. Raises `KeyError` when one is missing."""
        first, *others = self.literals
        return first + "".join(values[name] + text for name, text in zip(self.names, others, strict=True))

    def values_in(self, sentence: str) -> dict[str, str] | None:
        """The values with which this template gives `sentence`; None when there are none.

        The fixed parts are searched from left to right, each at its first place, so that the cost is one pass over
        the sentence.
        """
        first, *others = self.literals
        if not others:
            return {} if sentence == first else None
        last = others.pop()
        at, end = len(first), len(sentence) - len(last)
        if at > end or not sentence.startswith(first) or not sentence.endswith(last):
            return None
        found: list[str] = []
        for text in others:
            place = sentence.find(text, at, end)
            if place < 0:
                return None
            found.append(sentence[at:place])
            at = place + len(text)
        found.append(sentence[at:end])
        values = dict(zip(self.names, found, strict=True))
        return values if self.render(values) == sentence else None


def escaped(text: str) -> str:
    """Fixed text as a part of a template's id."""
    return text.replace("{", "{{").replace("}", "}}")
