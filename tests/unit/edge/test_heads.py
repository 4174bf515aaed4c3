"""The head of a request, however it comes in pieces, and whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.edge.heads import HEAD_MAX_BYTES, Head, HeadReader
from kaon.errors import InvalidInput, TooLarge

POST = b"POST /mark?x=1 HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer k\r\nContent-Length: 4\r\n\r\nbody"


def read(*pieces: bytes) -> Head | None:
    reader, head = HeadReader(), None
    for piece in pieces:
        head = head or reader.feed(piece)
    return head


def test_method_path_and_headers_are_read_and_the_body_is_not() -> None:
    fields = {b"host": b"shop", b"authorization": b"Bearer k", b"content-length": b"4"}
    assert read(POST) == Head(b"POST", b"/mark", fields)


@given(st.lists(st.integers(1, len(POST) - 1), max_size=20))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    ends = sorted({*cuts, len(POST)})
    assert read(*(POST[begin:end] for begin, end in zip([0, *ends], ends, strict=False))) == read(POST)


def test_an_upgrade_is_a_request_like_any_other() -> None:
    head = read(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")
    assert head is not None
    assert (head.method, head.path) == (b"GET", b"/chat")


@pytest.mark.parametrize("after", [b"GET /other HTTP/1.1\r\nX: y\r\n\r\n", b"\x00\x01\x02", b"POST"])
def test_what_follows_the_request_changes_nothing(after: bytes) -> None:
    assert read(POST + after) == read(POST)


def test_trailers_are_no_headers() -> None:
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer late\r\n\r\n"
    head = read(chunked)
    assert head is not None
    assert b"authorization" not in head.fields


def test_of_a_header_that_is_given_twice_the_last_counts_as_in_a_replica() -> None:
    head = read(b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n")
    assert head is not None
    assert head.fields[b"authorization"] == b"Bearer b"


def test_a_head_that_does_not_end_is_refused() -> None:
    endless = (b"x-%d: y\r\n" % number for number in range(HEAD_MAX_BYTES))
    with pytest.raises(TooLarge):
        read(b"GET / HTTP/1.1\r\n", *endless)


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\na b: c\r\n\r\n"]
)
def test_what_is_no_request_is_refused(junk: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(junk)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_whatever_comes_is_read_refused_or_waited_for(pieces: list[bytes]) -> None:
    try:
        head = read(*pieces)
    except (InvalidInput, TooLarge):
        return
    assert head is None or head.method
