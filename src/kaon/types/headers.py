"""The grammars of header names, header values, media types and file names.

Text from outside (a caller's media type, a handler's file name) is checked where it enters, and again where a head is
written: invalid text never reaches the wire. References: RFC 9110 (fields 5.1
and 5.5, media types 8.3.1), RFC 6266 and 8187 (file names), and for forms what browsers send (WHATWG HTML).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_NAME = re.compile(_WORD)
_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|{_QUOTED}))*")
_RAW_NAME = re.compile(_WORD.encode())
_RAW_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_MEDIA_TYPE = 255
_LONGEST_FILE_NAME = 255
_ATTR_CHARS = "!#$&+-.^_`|~"
"""Beyond letters and digits, what RFC 8187 leaves unescaped."""


def is_name(text: str) -> bool:
    """Whether `text` is a header's name."""
    return _NAME.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Whether `text` is a header's value: printable, in ISO 8859-1, no space at its ends."""
    return _VALUE.fullmatch(text) is not None


def is_media_type(text: str) -> bool:
    """Whether `text` is a media type, with parameters or without."""
    return len(text) <= _LONGEST_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(text) is not None and text.isascii()


def is_file_name(text: str) -> bool:
    """Whether `text` can name a file in a header: no control characters, valid UTF-8, at most 255 characters."""
    return len(text) <= _LONGEST_FILE_NAME and _CONTROL.search(text) is None


def field(name: str, value: str) -> tuple[bytes, bytes]:
    """A header in wire form, its name in lower case. Raises ValueError when it is invalid."""
    if not is_name(name):
        raise ValueError(f"{name[:80]!r} is not the name of a header")
    if not is_value(value):
        raise ValueError(f"the header {name} cannot have the value {value[:80]!r}")
    return name.lower().encode("ascii"), value.encode("latin-1")


def check(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises ValueError when one of the headers is invalid. For heads that are about to be written."""
    for name, value in headers:
        if _RAW_NAME.fullmatch(name) is None:
            raise ValueError(f"{name[:80]!r} is not the name of a header")
        if _RAW_VALUE.fullmatch(value) is None:
            raise ValueError(f"the header {name.decode()} cannot have the value {value[:80]!r}")


def content_disposition(kind: str, file_name: str = "") -> str:
    """The value of `Content-Disposition` that offers a file under that name, for old clients and new.

    A name beyond ASCII is sent twice: with underscores, and by RFC 8187. Folders are left out. Raises ValueError when
    `kind` is no token or the name has control characters.
    """
    if not is_name(kind):
        raise ValueError(f"{kind[:80]!r} is not a kind of Content-Disposition")
    if not is_file_name(file_name):
        raise ValueError("a file name has no control characters and at most 255 characters")
    name = re.split(r"[/\\]", file_name)[-1]
    if not name:
        return kind
    plain = "".join(c if c.isascii() else "_" for c in name).replace('"', "_")
    ascii_form = f'{kind}; filename="{plain}"'
    if plain == name and "%" not in name:  # some clients decode a percent sign in the plain form
        return ascii_form
    return f"{ascii_form}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def form_name(text: str) -> str:
    """`text` between the quotes of a multipart part's `name` or `filename`, escaped as browsers do."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
