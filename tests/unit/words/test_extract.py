"""Every text that a user may read is found in the source, whatever stands around it."""

import pytest

from kaon.words.extract import extract
from kaon.words.template import TextTemplate


def texts(source: str) -> list[str]:
    return [message.id for message in extract({"kaon/api/app.py": source})]


@pytest.mark.parametrize(
    ("source", "template"),
    [
        ('raise NotFound("gone")', None),
        ('class NotFound(KaonError): ...\nraise NotFound("Gone!")', "Gone!"),
        ('raise KaonError(f"no service {name}")', "no service {name}"),
        ('raise KaonError(f"no service {plain(view.name)}")', "no service {name}"),
        ('why = f"{len(found)} of {share:.1f} % are ready"', "{found_count} of {share} % are ready"),
        ('why = f"{a.name} is not {b.name}"', "{a_name} is not {b_name}"),
        ('why = f"{view.name} is away: kaon logs {view.name}"', "{name} is away: kaon logs {name}"),
        ('why = f"{sums[0]} is not {sums[1]}"', "{sums} is not {sums_2}"),
        ('why = f"a set {{x}} of {kind.value}"', "a set {{x}} of {kind}"),
        ('TEXTS = {"apart": "It stands {place} here."}', "It stands {place} here."),
        ('why = f"it runs{more}" if ready else None', "it runs{more}"),
        ('raise KaonError("Not now.", hint="Wait.")', "Wait."),
        ('note("one " "sentence")', "one sentence"),
        ('def f(x: Annotated[str, Option("--x", help="Not that one.")]): ...', "Not that one."),
        ('Column("age")', "age"),
        ("_log.warning('cannot go on')", None),
        ('"""A docstring of a module."""', None),
        ('assert x, "this is so"', None),
        ('found = text.startswith("not this one")', None),
        ('if x == "not this one": ...', None),
        ('re.compile("not this one")', None),
        ('execute("select this one")', None),
        ('reason = "NotReady"', None),
        ('path = f"/workspaces/{ws}"', None),
        ('run("kaon logs NAME")', None),
        ('f"{kind}: {name}"', None),
    ],
)
def test_a_text_is_found_where_a_user_may_read_it_and_nowhere_else(source: str, template: str | None) -> None:
    assert (template in texts(source)) if template else texts(source) == []


def test_formats_are_kept_apart_from_the_text() -> None:
    (message,) = extract({"kaon/api/app.py": 'why = f"it takes {took_s:.1f} s for {name!r}"'})

    assert message.id == "it takes {took_s} s for {name}"
    assert message.formats == {"took_s": ":.1f", "name": "!r"}


def test_one_text_at_two_places_is_one_message_whatever_its_values_are_called() -> None:
    (message,) = extract(
        {"kaon/api/app.py": 'a = f"no key {name} here"', "kaon/api/keys.py": 'b = f"no key {key} here"'}
    )

    assert message.id == "no key {name} here"
    assert message.places == ["kaon/api/app.py", "kaon/api/keys.py"]


def test_a_text_within_a_value_is_a_text_of_its_own() -> None:
    found = texts("""why = f"it ended{f' with exit code {code}' if code else ''}" """)

    assert found == ["it ended{code}", " with exit code {code}"]


def test_every_placeholder_of_a_template_is_a_name() -> None:
    source = 'why = f"is {x() + 1} or {[*y]} or {-z} or {await w} or {a if b else c} or {1} here"'

    (found,) = texts(f"async def f():\n    {source}")

    assert len(TextTemplate(found).names) == 6
