"""A response that ASGI has begun: its chunks written past ASGI's messages, and its end with the connection.

Chunks of a response that ASGI has begun, written past ASGI's messages: for streams of many small frames.

A message costs its dictionary, a coroutine and uvicorn's look at everything that a response can be; a chunk needs its
length and one write. Where that is not all, `write` says so, and the chunk goes as a message.
"""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CHUNKS = "kaon.chunks"
"""The name among a scope's extensions."""


class Chunks:
    """Writes the chunks of one response."""

    __slots__ = ("_cycle", "on_lost")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.on_lost: Callable[[], object] | None = None
        """Called when the connection is lost."""

    def write(self, chunk: bytes) -> bool:
        """Write a chunk that is not empty, if nothing is to be waited for or seen to; whether it was written."""
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.flow.write_paused or cycle.disconnected or cycle.response_complete:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return True

    def lost(self) -> None:
        """The connection is lost: whoever answers hears of it, also when it is not the last of the pipeline."""
        self._cycle.disconnected = True
        self._cycle.message_event.set()
        if self.on_lost is not None:
            self.on_lost()

    def cut(self) -> None:
        """Break the connection off, so that the client sees that the response is not whole."""
        cycle = self._cycle
        cycle.disconnected = True
        if cycle.flow.write_paused:  # the client does not read: what is in the buffer would never be gone
            cycle.transport.abort()
        else:
            cycle.transport.close()
