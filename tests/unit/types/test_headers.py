"""What becomes a header is of the grammar, or is refused with a reason."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.types import headers


@pytest.mark.parametrize(
    "text",
    [
        "image/png",
        "text/plain; charset=utf-8",
        'multipart/mixed; boundary="a \\" b"',
        "application/vnd.kaon.v1+json",
        "audio/L16;rate=24000;channels=1",
    ],
)
def test_media_types_of_the_grammar_are_taken(text: str) -> None:
    assert headers.is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "png",
        "image/",
        "/png",
        "image/png\r\nset-cookie: admin=1",
        "image/png\n",
        "image/p ng",
        "image/png;",
        "image/png; charset",
        'image/png; a="\r\n"',
        "imäge/png",
        'image/png; a="ä"',
        "image/" + "x" * 300,
    ],
)
def test_other_media_types_are_not(text: str) -> None:
    assert not headers.is_media_type(text)


@given(st.text(), st.text())
def test_a_field_is_written_whole_or_refused(name: str, value: str) -> None:
    try:
        field = headers.field(name, value)
    except ValueError:
        return
    headers.check([field])
    assert re.fullmatch(rb"[!-9;-~]+: [^\r\n\0]*", b": ".join(field))
    assert (field[0].decode(), field[1].decode("latin-1")) == (name.lower(), value)


@given(st.binary(), st.binary())
def test_raw_headers_are_held_to_the_same_grammar(name: bytes, value: bytes) -> None:
    said = headers.is_name(name.decode("latin-1")) and headers.is_value(value.decode("latin-1"))
    try:
        headers.check([(name, value)])
    except ValueError:
        assert not said
    else:
        assert said


@given(st.text())
def test_a_file_name_comes_back_from_content_disposition(name: str) -> None:
    try:
        said = headers.content_disposition("attachment", name)
    except ValueError:
        assert not headers.is_file_name(name)
        return
    assert headers.is_value(said)
    last = re.split(r"[/\\]", name)[-1]
    if (extended := re.search(r"filename\*=UTF-8''(\S+)", said)) is not None:
        assert unquote(extended[1]) == last
    else:
        assert f'filename="{last}"' in said or (said, last) == ("attachment", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "attachment"),
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("naïve.txt", "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
        ("50%25.txt", "attachment; filename=\"50%25.txt\"; filename*=UTF-8''50%2525.txt"),
    ],
)
def test_file_names_are_sent_for_old_clients_and_new(name: str, said: str) -> None:
    assert headers.content_disposition("attachment", name) == said


@pytest.mark.parametrize("name", ["a\r\nset-cookie: b", "a\0", "\ud800", "\u2028", "x" * 300])
def test_a_file_name_that_cannot_be_sent_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        headers.content_disposition("attachment", name)
