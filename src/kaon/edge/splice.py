"""Two connections spliced: the bytes of either end go to the other, no faster than it reads them.

HTTP is not parsed, so bodies of any size, streams and websockets pass. The end of one direction closes that direction
only; when one connection breaks, the other is broken too, so that half an answer is never taken for a whole one.
"""

from __future__ import annotations

import asyncio
from typing import cast

PIECE_BYTES = 64 * 1024
"""The most bytes of one read."""

_piece = memoryview(bytearray(PIECE_BYTES))
"""The read buffer of all ends of a loop: its content is copied before the next end reads."""


class SpliceEnd(asyncio.BufferedProtocol):
    """One end of a splice, after `joined`."""

    transport: asyncio.Transport
    other: SpliceEnd | None = None
    _finished = False

    def joined(self, other: SpliceEnd) -> None:
        """Send what either end receives to the other from now on."""
        self.other, other.other = other, self

    def received(self, piece: bytes) -> None:
        """Called with bytes that arrive before this end is joined."""

    def ended(self) -> bool:
        """Called when the peer ends its direction before this end is joined; returns whether the connection stays."""
        return False

    def lost(self) -> None:
        """Called when the connection is closed, in every case."""

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
        self._finished = True
        if self.other._finished:
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
