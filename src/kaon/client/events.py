"""A parser of server-sent events that takes bytes as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name (default: `message`), data, and id."""

    name: str
    data: bytes
    id: str | None = None


_DONE = b"[DONE]"
"""The last event of a stream in the form of the OpenAI API."""


class EventReader:
    """Parses events from chunks of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self.last_id: str | None = None
        """The last id, also of a block without data."""

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that end within `chunk`."""
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            if event := self._event(block):
                yield event

    def _event(self, block: bytes) -> ServerEvent | None:
        name, data, id_ = "message", [], None
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value.decode("utf-8", "replace")
            elif field == b"data":
                data.append(value)
            elif field == b"id":
                self.last_id = id_ = value.decode("utf-8", "replace")
        return ServerEvent(name, b"\n".join(data), id_) if data and data != [_DONE] else None
