"""Files on the wire: uploads of callers and answers of handlers.

A `File` is read from a part of a multipart form, as the raw body of a request, or inside JSON as
`{"name": ..., "media_type": ..., "content": base64}`; as an answer it is sent as raw bytes with its media type.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kaon.types.headers import is_file_name, is_media_type

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OCTET_STREAM = "application/octet-stream"

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (4, b"ftypM4A", "audio/mp4"),
    (0, b"\x1aE\xdf\xa3", "audio/webm"),
)


def sniff(content: bytes) -> str:
    """The media type recognised from the first bytes of `content`; empty when none is."""
    return next((kind for at, mark, kind in _SIGNATURES if content[at : at + len(mark)] == mark), "")


class File:
    """Bytes with a name and a media type.

    Raises ValueError when the media type is not of the class's family (`Image`, `Audio`), and for a name or media type
    that is invalid in a header.
    """

    family: ClassVar[str] = ""
    __slots__ = ("content", "media_type", "name")

    def __init__(self, content: bytes, *, name: str = "", media_type: str = "") -> None:
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"a file's content is bytes, not {type(content).__name__}")
        declared = media_type.partition(";")[0].strip().lower()
        if not declared or declared == OCTET_STREAM:
            declared = sniff(content) or OCTET_STREAM
        if not is_media_type(declared):
            raise ValueError(f"{media_type[:80]!r} is not a media type")
        if not is_file_name(name):
            raise ValueError("a file name has no control characters and at most 255 characters")
        if not declared.startswith(self.family):
            raise ValueError(f"a file of type {self.family}* is needed")
        self.content = bytes(content)
        self.name = name
        self.media_type = declared

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The file at `path`."""
        path = Path(path)
        return cls(path.read_bytes(), name=path.name)

    def open(self) -> io.BytesIO:
        """The content as a binary stream."""
        return io.BytesIO(self.content)

    def save(self, path: str | Path) -> None:
        """Write the content to `path`."""
        Path(path).write_bytes(self.content)

    def wire(self) -> dict[str, str]:
        """The file inside JSON: name, media type and content in base64."""
        content = base64.b64encode(self.content).decode()
        return {"name": self.name, "media_type": self.media_type, "content": content}

    def __len__(self) -> int:
        return len(self.content)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return (self.content, self.media_type, self.name) == (other.content, other.media_type, other.name)

    def __hash__(self) -> int:
        return hash((self.content, self.media_type, self.name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.media_type}, {len(self.content)} bytes)"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read_wire,
            serialization=core_schema.plain_serializer_function_ser_schema(write_file),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "type": "object",
            "title": cls.__name__,
            "properties": {
                "name": {"type": "string"},
                "media_type": {"type": "string", "examples": [f"{cls.family or 'application/'}*"]},
                "content": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["content"],
            "additionalProperties": False,
        }

    @classmethod
    def _read_wire(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, File):
            return cls(value.content, name=value.name, media_type=value.media_type)
        if not isinstance(value, Mapping) or not value.keys() <= {"name", "media_type", "content"}:
            raise ValueError("a file is needed, or an object of name, media_type and content")
        name, media_type, content = value.get("name", ""), value.get("media_type", ""), value.get("content")
        if not (isinstance(name, str) and isinstance(media_type, str) and isinstance(content, str)):
            raise ValueError("content in base64 is needed")
        return cls(read_base64(content), name=name, media_type=media_type)


class Image(File):
    """An image file of any format."""

    family = "image/"
    __slots__ = ()

    def pillow(self) -> Any:
        """The decoded `PIL.Image.Image`; needs Pillow in the service's requirements."""
        return importlib.import_module("PIL.Image").open(self.open())


class Audio(File):
    """A sound file of any format."""

    family = "audio/"
    __slots__ = ()

    def samples(self) -> tuple[NDArray[np.float32], int]:
        """Samples in -1..1, shape (frames, channels), and their rate in Hz. For PCM WAV files of 8, 16 or 32 bits.

        Raises ValueError for another format.
        """
        import numpy as np

        try:
            with wave.open(self.open()) as sound:
                rate, channels, width = sound.getframerate(), sound.getnchannels(), sound.getsampwidth()
                frames = sound.readframes(sound.getnframes())
        except (wave.Error, EOFError):
            raise ValueError("a PCM WAV file is needed") from None
        if width not in (1, 2, 4):
            raise ValueError("a WAV file of 8, 16 or 32 bits is needed")
        whole = np.frombuffer(frames, dtype={1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float32)
        scaled = whole / 128.0 - 1.0 if width == 1 else whole / float(2 ** (8 * width - 1))
        return scaled.astype(np.float32).reshape(-1, channels), rate


def read_base64(text: str) -> bytes:
    """Decodes base64 in the standard or the URL-safe alphabet. Raises ValueError."""
    try:
        standard = text.replace("-", "+").replace("_", "/")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("text in base64 is needed") from None


def write_file(value: Any) -> dict[str, str]:
    """A file inside JSON. Raises ValueError for other values."""
    if not isinstance(value, File):
        raise ValueError("a kaon.File is needed")
    return value.wire()
