"""Content codings of a request's body: decoded piece by piece, so that the decoded size is bounded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from kaon.errors import InvalidInput, TooLarge, UnsupportedMediaType

_GZIP, _ZLIB, _DEFLATE = 31, 15, -15
"""zlib's window bits for a gzip header, a zlib header and none."""
_SLICE = 65_536
_PIECE = 1_048_576
_MEMBERS = 1000
"""The most members of one gzip body."""
_CODINGS = 2
"""The most codings of one body."""


async def decoded(header: bytes, body: bytes, most: int) -> bytes:
    """`body` without the codings that `header` names (`Content-Encoding`). Yields to the loop between pieces.

    Raises UnsupportedMediaType, InvalidInput for a body that does not match the header, and TooLarge when it decodes
    to more than `most` bytes.
    """
    codings = [name.strip().lower() for name in header.decode("latin-1").split(",")]
    codings = [name for name in codings if name not in ("", "identity")]
    unknown = next((name for name in codings if name not in ("gzip", "x-gzip", "deflate")), None)
    if unknown is not None or len(codings) > _CODINGS:
        error = UnsupportedMediaType(
            f"The content coding {unknown[:80]!r} is not supported."
            if unknown
            else "The body has too many content codings.",
            hint="Send the body uncompressed, or use gzip or deflate.",
        )
        error.headers = (("accept-encoding", "gzip, deflate"),)
        raise error
    for coding in reversed(codings):
        body = await _unpacked(coding, body, most) if body else body
    return body


async def _unpacked(coding: str, body: bytes, most: int) -> bytes:
    pieces, size = [], 0
    try:
        for piece in _pieces(body, _window(coding, body)):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise TooLarge(f"The body decodes to more than {most} bytes.", hint="Send it in pieces.")
            await asyncio.sleep(0)
    except zlib.error as error:
        why = str(error).rpartition(": ")[2]
        raise InvalidInput(f"The body is not {coding}, its Content-Encoding: {why}.") from None
    return b"".join(pieces)


def _window(coding: str, body: bytes) -> int:
    if coding != "deflate":
        return _GZIP
    has_header = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _ZLIB if has_header else _DEFLATE  # clients send both under this name


def _pieces(body: bytes, window: int) -> Iterator[bytes]:
    """The decoded body, in pieces of at most `_PIECE` bytes. Raises zlib.error."""
    unpacker, members = zlib.decompressobj(window), 1
    at, held = 0, b""
    while held or at < len(body):
        if not held:
            held = body[at : at + _SLICE]
            at += len(held)
        yield unpacker.decompress(held, _PIECE)
        held = unpacker.unconsumed_tail
        if unpacker.eof:
            held = unpacker.unused_data
            if not held and at >= len(body):
                return
            members += 1
            if window != _GZIP or members > _MEMBERS:
                raise zlib.error("something follows its end")
            unpacker = zlib.decompressobj(window)
    while not unpacker.eof:
        piece = unpacker.decompress(b"", _PIECE)
        if not piece:
            raise zlib.error("it ends too early")
        yield piece
