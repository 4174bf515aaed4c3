"""Chunks of a response that ASGI has begun, written without ASGI messages: for streams of many small frames.

A message costs a dictionary, a coroutine and uvicorn's handling of everything that a response can be; a chunk needs its
length and one write. Where more is needed, `write` returns False, and the chunk is sent as a message.
"""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CHUNKS = "kaon.chunks"
"""Its name in a scope's extensions."""


class Chunks:
    """Writes the chunks of one response."""

    __slots__ = ("_cycle", "on_lost")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.on_lost: Callable[[], object] | None = None
        """Called when the connection is lost."""

    def write(self, chunk: bytes) -> bool:
        """Write a non-empty chunk, unless the transport is paused or closed; whether it was written."""
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.flow.write_paused or cycle.disconnected or cycle.response_complete:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return True

    def lost(self) -> None:
        """The connection is lost: wake the app and call `on_lost`, also for a request in the middle of a pipeline."""
        self._cycle.disconnected = True
        self._cycle.message_event.set()
        if self.on_lost is not None:
            self.on_lost()

    def cut(self) -> None:
        """Close the connection, so that the client sees that the response is incomplete."""
        cycle = self._cycle
        cycle.disconnected = True
        if cycle.flow.write_paused:  # the client does not read: the buffer would never drain
            cycle.transport.abort()
        else:
            cycle.transport.close()
