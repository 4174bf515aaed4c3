"""From a sentence back to the text that it was rendered from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.words.catalogue import IDS

from kaon.words import match
from kaon.words.match import MOST_CHARACTERS, TextMatcher
from kaon.words.template import TextTemplate

AMBIGUOUS = {
    "installing {last}{more} ({done} of {started} downloads done, {packages})",
    "{lines} wrong in {name}{more}.",
    "{low} to {high}{unit}{whole}",
}
"""Texts with two values next to each other, so that nobody can tell where one ends. May only become fewer: write the
alternatives as texts of their own."""

VALUES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?|[1-9][0-9]{0,6}", fullmatch=True)


@st.composite
def rendered(draw: st.DrawFn, ids: list[str]) -> tuple[str, dict[str, str]]:
    text = draw(st.sampled_from(ids))
    return text, {name: draw(VALUES) for name in TextTemplate(text).names}


@given(rendered([text for text in IDS if text not in AMBIGUOUS]))
def test_a_rendered_text_gives_its_id_and_values_back(sample: tuple[str, dict[str, str]]) -> None:
    text, values = sample

    assert match(TextTemplate(text).render(values)) == (text, values)


def test_only_texts_of_the_list_are_ambiguous_and_the_list_names_no_others() -> None:
    samples = ("alpha", "17", "beta-2", "3.25", "x9"), ("x", "x", "x", "x", "x"), ("8", "70", "600", "5.5", "4")
    found = set()
    for text in IDS:
        for sample in samples:
            values = dict(zip(TextTemplate(text).names, sample * 3, strict=False))
            if match(TextTemplate(text).render(values)) != (text, values):
                found.add(text)

    assert found - AMBIGUOUS == set(), "write the alternatives as texts of their own, or put fixed text between values"
    assert AMBIGUOUS - found == set(), "the text is gone or unambiguous now: take it off the list"


def test_an_ambiguous_text_matches_some_text_that_gives_the_same_sentence() -> None:
    for text in AMBIGUOUS:
        sentence = TextTemplate(text).render(dict.fromkeys(TextTemplate(text).names, "some"))
        found = match(sentence)

        assert found is not None
        assert TextTemplate(found[0]).render(found[1]) == sentence


@given(st.text(max_size=200) | st.sampled_from(IDS))
def test_whatever_matches_gives_the_same_sentence(sentence: str) -> None:
    found = match(sentence)

    assert found is None or TextTemplate(found[0]).render(found[1]) == sentence


def test_the_text_with_the_most_fixed_characters_wins() -> None:
    matcher = TextMatcher(["{x} is here", "{x} is not here", "{x} is {y}"])

    assert matcher.match("a is not here") == ("{x} is not here", {"x": "a"})
    assert matcher.match("a is there") == ("{x} is {y}", {"x": "a", "y": "there"})


def test_a_placeholder_that_occurs_twice_has_one_value() -> None:
    matcher = TextMatcher(["{x} is away: kaon logs {x}"])

    assert matcher.match("a is away: kaon logs a") == ("{x} is away: kaon logs {x}", {"x": "a"})
    assert matcher.match("a is away: kaon logs b") is None


def test_braces_of_a_text_are_braces_of_its_sentences() -> None:
    matcher = TextMatcher(["the set {{x}} of {x}"])

    assert matcher.match("the set {x} of 3") == ("the set {{x}} of {x}", {"x": "3"})


def test_a_word_that_goes_on_within_a_value_is_found() -> None:
    assert TextMatcher(["{n} replica{plural}"]).match("3 replicas") == (
        "{n} replica{plural}",
        {"n": "3", "plural": "s"},
    )


@pytest.mark.parametrize("sentence", ["", "no such text", "x" * (MOST_CHARACTERS + 1)])
def test_what_no_text_gives_matches_none(sentence: str) -> None:
    assert match(sentence) is None
