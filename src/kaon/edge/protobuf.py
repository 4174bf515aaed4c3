"""Protocol Buffers' wire format: as much of it as endpoints need. Pure.

A message is a row of fields: a number, a wire type, a value. Two wire types are enough here: varints, and bytes of a
length (texts and messages within messages).
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}


def varint(number: int, value: int) -> bytes:
    """A field that holds a number of 0 or more, or a truth value."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def message(number: int, content: bytes | str) -> bytes:
    """A field that holds a message, bytes or a text."""
    content = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, in order: number and value. Raises `ValueError` when it is cut off or no message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _read_varint(data, at)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in _WIDTH:
            length = _WIDTH[kind]
        else:
            raise ValueError(f"a field has the wire type {kind}")
        if at + length > len(data):
            raise ValueError("a message is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is cut off or too long")
