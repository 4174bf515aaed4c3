"""Two connections made one: what either end says goes to the other, as it is and no faster than it is read.

Nothing here knows of HTTP, so bodies of any size, streams and websockets pass. An end that has said all closes
its direction only; when one breaks, the other is broken too, so that nobody takes half an answer for a whole.
"""

from __future__ import annotations

import asyncio
from typing import cast

PIECE_BYTES = 64 * 1024
"""At most so much is read at once."""

_piece = memoryview(bytearray(PIECE_BYTES))
"""All ends of a loop read into this: what is read is copied on before the next one reads."""


class SpliceEnd(asyncio.BufferedProtocol):
    """One end of a splice, once `joined` to the other."""

    transport: asyncio.Transport
    other: SpliceEnd | None = None
    _said_all = False

    def joined(self, other: SpliceEnd) -> None:
        """From now on, what either end receives is the other's."""
        self.other, other.other = other, self

    def received(self, piece: bytes) -> None:
        """Something came before this end was joined."""

    def ended(self) -> bool:
        """The peer has said all before this end was joined; whether the connection stays open."""
        return False

    def lost(self) -> None:
        """The connection is gone; called in any case."""

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class

    def get_buffer(self, sizehint: int) -> memoryview:
        return _piece

    def buffer_updated(self, nbytes: int) -> None:
        piece = bytes(_piece[:nbytes])
        if self.other is None:
            self.received(piece)
        else:
            self.other.transport.write(piece)

    def eof_received(self) -> bool:
        if self.other is None:
            return self.ended()
        self._said_all = True
        if self.other._said_all:
            self.other.transport.close()
            return False
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()
        self.lost()
