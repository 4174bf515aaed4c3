"""Server-sent events, read piece by piece as the bytes come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name (`message` unless it has one), data, and the id to go on from, if it has one."""

    name: str
    data: bytes
    id: str | None = None


_DONE = b"[DONE]"
"""The last event of a stream in the form of the OpenAI API."""


class EventReader:
    """Bytes in, events out, wherever the bytes are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self.last_id: str | None = None
        """The newest id that came, be it without an event."""

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
