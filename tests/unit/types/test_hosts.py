from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.types.hosts import LOOPBACK, host_of, split_url, uses_tls


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8080", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8080", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("ai.example.com:443", "ai.example.com"),
        ("münchen.example", "münchen.example"),
    ],
)
def test_a_host_with_and_without_a_port(authority: str, host: str) -> None:
    assert host_of(authority) == host


EVIL = [
    "[::1]evil.com",
    "[::1]evil.com:8080",
    "[::1].evil.com",
    "[::1]:8080.evil.com",
    "[::1]@evil.com",
    "evil.com[::1]",
    "[127.0.0.1]",
    "[localhost]",
    "[::1%25lo]",
    "[::1",
    "::1",
    "::1]",
    "[]",
    "",
    ":80",
    "localhost:",
    "localhost:http",
    "localhost:99999",
    "localhost:8080:80",
    "127.0.0.1@evil.com",
    "user:word@127.0.0.1",
    "127.0.0.1/evil.com",
    "127.0.0.1\\evil.com",
    "127.0.0.1#.evil.com",
    "local host",
    "localhost\t",
]


@pytest.mark.parametrize("authority", EVIL)
def test_whatever_else_is_no_host(authority: str) -> None:
    with pytest.raises(ValueError, match="no h"):
        host_of(authority)


@given(st.sampled_from(["[::1]", "localhost", "127.0.0.1"]), st.text(min_size=1, max_size=20))
def test_nothing_that_is_put_after_a_name_of_this_machine_is_taken_for_it(name: str, more: str) -> None:
    try:
        host = host_of(name + more)
    except ValueError:
        return
    assert host not in LOOPBACK or more[1:].isdecimal()


@pytest.mark.parametrize(
    "url", ["ftp://localhost", "localhost", "http://", "http://u@localhost", "http://[::1]evil.com/"]
)
def test_a_url_is_http_and_has_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="no h"):
        split_url(url)


@pytest.mark.parametrize(
    ("url", "tls"),
    [("http://a", False), ("HTTP://a:80/b", False), ("https://a", True), ("HTTPS://a", True), ("", True), ("a", True)],
)
def test_certificates_are_left_out_for_plain_http_only(url: str, tls: bool) -> None:
    assert uses_tls(url) is tls
