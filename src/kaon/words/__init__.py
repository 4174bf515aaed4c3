"""Every text that a user may read, in one catalogue (`kaon.pot`), and the way back from a sentence to its text.

`make words` writes the catalogue from the source (`kaon.words.extract`). A text's id is the English text itself, with
named placeholders, as gettext has it. `match("There is no key 'a' in workspace 'b'.")` gives that id and the values.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from kaon.words.catalogue import read
from kaon.words.match import TextMatcher

CATALOGUE = "kaon.pot"


def match(sentence: str) -> tuple[str, dict[str, str]] | None:
    """The id of the text that `sentence` was rendered from, and its values; None when no text gives it."""
    return _matcher().match(sentence)


@cache
def _matcher() -> TextMatcher:
    return TextMatcher(read(files(__name__).joinpath(CATALOGUE).read_text(encoding="utf-8")))
