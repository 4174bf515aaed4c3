"""The serving side of one gRPC stream over HTTP/2, without I/O: bytes go in, messages and bytes come out.

The only peer is our own Envoy, on a private socket, which opens one stream that lasts. So this is the part of RFC 9113
that such a peer needs: headers are not read (there is one method), nothing is pushed, nothing is prioritised. What
breaks the protocol raises `ValueError`, and the connection is to be closed.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MESSAGE_MAX_BYTES = 8 * 2**20
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_ACK, _END_STREAM, _END_HEADERS, _PADDED = 1, 1, 4, 8
_INITIAL_WINDOW, _MAX_FRAME = 4, 16_384
_OWN_WINDOW = 16 * 2**20
# `:status: 200` by its index; `content-type: application/grpc` with the name by its index and the value as it is.
_ANSWER_HEADERS = b"\x88\x0f\x10\x10application/grpc"
_TRAILERS = b"\x00\x0bgrpc-status\x010"


class GrpcStream:
    """One connection, with at most one stream at a time."""

    def __init__(self) -> None:
        self.stream = 0
        """The stream that is open; 0: none."""
        self._out = bytearray()
        self._in = bytearray()
        self._greeted = False
        self._opening = 0
        self._received = bytearray()
        self._unsent = bytearray()
        self._peer_window = 65_535
        """What a new stream may be sent."""
        self._window = self._stream_window = 65_535

    def receive(self, data: bytes) -> list[bytes]:
        """Take in bytes; the messages that are complete by them. Raises `ValueError`."""
        self._in += data
        if not self._greeted:
            if len(self._in) < len(PREFACE):
                return []
            if not self._in.startswith(PREFACE):
                raise ValueError("no HTTP/2")
            del self._in[: len(PREFACE)]
            self._greeted = True
            self._frame(_SETTINGS, 0, 0, struct.pack("!HI", _INITIAL_WINDOW, _OWN_WINDOW))
            self._frame(_WINDOW_UPDATE, 0, 0, struct.pack("!I", _OWN_WINDOW))
        while len(self._in) >= 9:
            length = int.from_bytes(self._in[:3], "big")
            if length > _MAX_FRAME:
                raise ValueError("a frame is too long")
            if len(self._in) < 9 + length:
                break
            kind, flags, stream = struct.unpack("!BBI", self._in[3:9])
            payload = bytes(self._in[9 : 9 + length])
            del self._in[: 9 + length]
            self._take(kind, flags, stream & 0x7FFF_FFFF, payload)
        return self._messages()

    def send(self, message: bytes) -> None:
        """Send a message, as far as the peer lets us by now. Nothing is sent while no stream is open."""
        if self.stream:
            self._unsent += struct.pack("!BI", 0, len(message)) + message
            self._flush()

    def to_send(self) -> bytes:
        """The bytes to put on the wire now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 4 if not flags & _ACK:
                self._settings(payload)
            case 6 if not flags & _ACK:
                self._frame(_PING, _ACK, 0, payload)
            case 8:
                self._grow(stream, int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF)
            case 1:
                self._opening = stream
                if flags & _END_HEADERS:
                    self._open()
            case 9 if flags & _END_HEADERS:
                self._open()
            case 0:
                self._data(flags, stream, payload)
            case 3 if stream == self.stream:
                self.stream = 0

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload) - 5, 6):
            name, value = struct.unpack("!HI", payload[at : at + 6])
            if name == _INITIAL_WINDOW:
                self._stream_window += value - self._peer_window
                self._peer_window = value
        self._frame(_SETTINGS, _ACK, 0, b"")
        self._flush()

    def _grow(self, stream: int, by: int) -> None:
        if stream == 0:
            self._window += by
        elif stream == self.stream:
            self._stream_window += by
        self._flush()

    def _open(self) -> None:
        """The stream's head is here. Whatever stream was open before is not any more."""
        if self._opening == self.stream:
            return  # trailers
        self.stream = self._opening
        self._received.clear()
        self._unsent.clear()
        self._stream_window = self._peer_window
        self._frame(_HEADERS, _END_HEADERS, self.stream, _ANSWER_HEADERS)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        if payload:  # what was read may be sent again
            grown = struct.pack("!I", len(payload))
            self._frame(_WINDOW_UPDATE, 0, 0, grown)
            self._frame(_WINDOW_UPDATE, 0, stream, grown)
        if stream != self.stream:
            return
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        self._received += payload
        if flags & _END_STREAM:
            self._frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _TRAILERS)
            self.stream = 0

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        while len(self._received) >= 5:
            compressed, length = struct.unpack("!BI", self._received[:5])
            if compressed or length > MESSAGE_MAX_BYTES:
                raise ValueError("a message is compressed or too long")
            if len(self._received) < 5 + length:
                break
            found.append(bytes(self._received[5 : 5 + length]))
            del self._received[: 5 + length]
        return found

    def _flush(self) -> None:
        while self.stream and self._unsent:
            size = min(len(self._unsent), _MAX_FRAME, self._window, self._stream_window)
            if size <= 0:
                return
            self._frame(_DATA, 0, self.stream, bytes(self._unsent[:size]))
            del self._unsent[:size]
            self._window -= size
            self._stream_window -= size

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._out += len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload
