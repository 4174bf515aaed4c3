"""HTML forms, as browsers and RFC 7578 send them: fields and files by name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from kaon.errors import InvalidInput, UnsupportedMediaType
from kaon.types.media import File

if TYPE_CHECKING:
    from starlette.datastructures import UploadFile

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MAX_PARTS = 1000

FormParts = list[tuple[str, str | File | None]]
"""Names with values; None: a file input that was left empty."""

_CHARSET_FIELD = "_charset_"
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8"}
_CHARSETS |= dict.fromkeys(("iso-8859-1", "latin1", "windows-1252", "cp1252"), "cp1252")
"""The charsets of browsers' forms; browsers treat ISO 8859-1 as Windows 1252."""


async def form(content_type: str, body: bytes) -> FormParts:
    """The parts of a form. Raises InvalidInput, or UnsupportedMediaType for an unsupported charset."""
    charset = _charset(_parameter(content_type, "charset"))
    if content_type.lower().startswith(URLENCODED):
        if _CHARSET_FIELD.encode() in body and (declared := dict(_fields(body, "latin-1")).get(_CHARSET_FIELD)):
            charset = _charset(declared)
        return [(name, text) for name, text in _fields(body, charset) if name != _CHARSET_FIELD]
    parts = await _multipart(content_type, body)
    if declared := next((value for name, value in parts if name == _CHARSET_FIELD and isinstance(value, str)), ""):
        charset = _charset(declared)
    return [
        (_text(name, charset), _text(value, charset) if isinstance(value, str) else value)
        for name, value in parts
        if name != _CHARSET_FIELD
    ]


def _fields(body: bytes, charset: str) -> list[tuple[str, str]]:
    try:
        text = body.decode(charset)
        return parse_qsl(text, keep_blank_values=True, encoding=charset, errors="strict", max_num_fields=MAX_PARTS)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The form is not {charset}: {error.reason} at byte {error.start}.") from None
    except ValueError:
        raise InvalidInput(f"The form has more than {MAX_PARTS} fields.") from None


async def _multipart(content_type: str, body: bytes) -> FormParts:
    """The parts of a multipart form; texts are decoded as latin-1."""
    # Imported by the first form: most replicas never get one.
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    boundary = _parameter(content_type, "boundary")
    if not boundary:
        raise InvalidInput("The form has no boundary.", hint="Let the HTTP client set the form's content type.")
    headers = Headers({"content-type": f'{MULTIPART}; boundary="{boundary}"; charset=latin-1'})
    parts: FormParts = []
    try:
        parser = MultiPartParser(headers, stream(), max_files=MAX_PARTS, max_fields=MAX_PARTS)
        parser.max_part_size = max(1, len(body))  # an argument from starlette 0.40 on, and without limit before
        for name, value in (await parser.parse()).multi_items():
            if isinstance(value, UploadFile):
                parts.append((name, await _file(value)))
            else:
                parts.append((name, value))
    except MultiPartException as error:
        raise InvalidInput(
            f"The form cannot be read: {error.message[:200]}", hint="Send multipart/form-data with a boundary."
        ) from None
    except (KeyError, ValueError, AssertionError):
        raise InvalidInput("The form cannot be read.", hint="Send multipart/form-data with a boundary.") from None
    return parts


async def _file(upload: UploadFile) -> File | None:
    content = await upload.read()
    await asyncio.shield(upload.close())
    if not content and not upload.filename:
        return None  # what browsers send when no file was chosen
    name = _text(upload.filename or "", "utf-8")
    try:
        return File(content, name=name, media_type=upload.content_type or "")
    except ValueError as error:
        raise InvalidInput(f"The file {name[:80]!r} of the form is refused: {error}.") from None


def _text(raw: str, charset: str) -> str:
    """`raw`, decoded as latin-1 before, in its real charset."""
    try:
        return raw.encode("latin-1").decode(charset)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"A text of the form is not {charset}: {error.reason} at byte {error.start}.") from None


def _parameter(content_type: str, name: str) -> str:
    found = re.search(rf';\s*{name}\s*=\s*(?:"([^"]*)"|([^;\s]*))', content_type, re.IGNORECASE)
    return (found[1] or found[2] or "") if found else ""


def _charset(name: str) -> str:
    codec = _CHARSETS.get(name.strip().lower() or "utf-8")
    if codec is None:
        raise UnsupportedMediaType(f"The charset {name[:80]!r} of the form is not supported.", hint="Send it in UTF-8.")
    return codec
