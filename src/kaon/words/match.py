"""Finds the template of an English sentence that was rendered before, so that stored sentences can be translated. Pure.

Events, conditions, reasons and errors are stored and sent as English sentences. `match` gives back the template and
the values, by which a translation of the template gives the same sentence in another language. A value may itself be
a sentence of the catalogue (`{cause} {hint}`), which is matched the same way.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain

from kaon.words.template import TextTemplate

MOST_CHARACTERS = 4_000
"""A longer sentence has no template: the cost of a look-up is bounded."""
_WORD = re.compile(r"[A-Za-z]+")


class TextMatcher:
    """An index over templates by the rarest word of each; the few without a whole word are always tried."""

    def __init__(self, ids: Iterable[str]) -> None:
        templates = [TextTemplate(text) for text in ids]
        words = {template: _words(template) for template in templates}
        frequency = Counter(word for found in words.values() for word in found)
        self._by_word: dict[str, list[TextTemplate]] = defaultdict(list)
        self._others = [template for template, found in words.items() if not found]
        for template, found in words.items():
            if found:
                self._by_word[min(found, key=lambda word: (frequency[word], word))].append(template)

    def match(self, sentence: str) -> tuple[str, dict[str, str]] | None:
        """The id of the template with the most fixed text that gives `sentence`, and its values; None: no template."""
        if len(sentence) > MOST_CHARACTERS:
            return None
        best: tuple[tuple[int, int, str], dict[str, str]] | None = None
        words = set(_WORD.findall(sentence))
        for template in chain(self._others, *(self._by_word[word] for word in words & self._by_word.keys())):
            values = template.values_in(sentence)
            if values is not None:
                rank = sum(map(len, template.literals)), -len(template.names), template.id
                best = max(best or (rank, values), (rank, values), key=lambda found: found[0])
        return (best[0][2], best[1]) if best else None


def _words(template: TextTemplate) -> set[str]:
    """Words that stand whole in every sentence of the template: none that may go on within a value."""
    last = len(template.literals) - 1
    found: set[str] = set()
    for place, text in enumerate(template.literals):
        for word in _WORD.finditer(text):
            if (word.start() > 0 or place == 0) and (word.end() < len(text) or place == last):
                found.add(word.group())
    return found
