"""What `call` says and keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kaon
from kaon.cli.call import command as call
from kaon.errors import InvalidInput, Unavailable

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ([kaon.File(PNG)], PNG),
        ([{"a": "é"}], '{"a": "é"}\n'.encode()),
        ([0, "b"], b'0\n"b"\n'),
        ([b"\x00\xff", b"\x01"], b"\x00\xff\x01"),
        ([], b""),
    ],
)
def test_answers_are_kept_as_they_are(answers: list[Any], kept: bytes, tmp_path: Path) -> None:
    call.write(iter(answers), str(tmp_path / "answer"))
    assert (tmp_path / "answer").read_bytes() == kept
    assert len(list(tmp_path.iterdir())) == 1


def test_an_answer_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield b"half of it"
        raise Unavailable("The stream broke.")

    (tmp_path / "answer").write_bytes(b"before")
    with pytest.raises(Unavailable):
        call.write(broken(), str(tmp_path / "answer"))
    assert (tmp_path / "answer").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_headers_are_names_and_values() -> None:
    assert call.headers_from(["X-Request-Id: abcd1234", "accept-language:de"]) == {
        "x-request-id": "abcd1234",
        "accept-language": "de",
    }


@pytest.mark.parametrize(
    "text", ["", "x", ": v", "a b: v", "x: a\r\ny: b", "x: é☃", "Authorization: Bearer k", "host: x"]
)
def test_what_is_no_header_or_the_calls_own_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        call.headers_from([text])


def test_files_and_bytes_are_told_by_what_they_are() -> None:
    assert call.answer_text(kaon.File(PNG)) == "image/png, 8 bytes; save it: -o FILE"
    assert call.answer_text(b"ab") == "2 bytes; save them: -o FILE"
    assert call.answer_text("12345") == '"12345"'
