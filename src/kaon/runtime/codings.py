"""Content codings of a request's body: undone piece by piece, so that what it unpacks to is bounded like any body."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from kaon.errors import InvalidInput, TooLarge, UnsupportedMediaType

_GZIP, _ZLIB, _DEFLATE = 31, 15, -15
"""How zlib is told of a gzip header, of its own, and of none."""
_SLICE = 65_536
_PIECE = 1_048_576
_MEMBERS = 1000
"""Of one gzip body."""
_CODINGS = 2
"""Of one body; whoever packs more often wants to do harm."""


async def decoded(header: bytes, body: bytes, most: int) -> bytes:
    """`body` without the codings that `header` names (`Content-Encoding`). The loop goes on between the pieces.

    Raises UnsupportedMediaType, InvalidInput for a body that is not what the header says, and TooLarge when it
    unpacks to more than `most` bytes.
    """
    codings = [name.strip().lower() for name in header.decode("latin-1").split(",")]
    codings = [name for name in codings if name not in ("", "identity")]
    unknown = next((name for name in codings if name not in ("gzip", "x-gzip", "deflate")), None)
    if unknown is not None or len(codings) > _CODINGS:
        error = UnsupportedMediaType(
            f"The content coding {unknown[:80]!r} is not taken here." if unknown else "The body is packed too often.",
            hint="Send the body as it is, or packed by gzip or deflate.",
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
                raise TooLarge(f"The body unpacks to more than {most} bytes.", hint="Send it in pieces.")
            await asyncio.sleep(0)
    except zlib.error as error:
        why = str(error).rpartition(": ")[2]
        raise InvalidInput(f"The body is not {coding}, as its Content-Encoding says: {why}.") from None
    return b"".join(pieces)


def _window(coding: str, body: bytes) -> int:
    if coding != "deflate":
        return _GZIP
    has_header = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _ZLIB if has_header else _DEFLATE  # both are sent under this name


def _pieces(body: bytes, window: int) -> Iterator[bytes]:
    """What `body` unpacks to, in pieces of at most `_PIECE` bytes. Raises zlib.error."""
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
