"""The server side of one gRPC stream, without I/O: bytes go in, messages and bytes come out.

The library h2 implements HTTP/2. This module adds gRPC: messages with a head of five bytes, on one long stream. The
only peer is our own Envoy, on a private socket, so headers are not read (there is one method). A violation of the
protocol raises `ValueError`, after which the connection must be closed.
"""

from __future__ import annotations

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

MESSAGE_MAX_BYTES = 8 * 2**20
_SETTINGS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: 1,
    SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
}
_HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_TRAILERS = [(b"grpc-status", b"0")]


class GrpcStream:
    """One connection, with at most one stream at a time."""

    def __init__(self) -> None:
        self.stream = 0
        """The open stream; 0: none."""
        self._ended = False
        """Whether the peer has ended its side of the stream."""
        self._received = bytearray()
        self._unsent = bytearray()
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._http.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._http.initiate_connection()

    def receive(self, data: bytes) -> list[bytes]:
        """Read bytes; returns the messages that are complete now, unless their stream is over. Raises `ValueError`."""
        before = self.stream
        try:
            for event in self._http.receive_data(data):
                self._take(event)
            self._answer(begins=self.stream != before)
            return self._messages()
        except (ProtocolError, ValueError) as error:
            self._close()
            raise ValueError(f"the peer violates the protocol: {error}") from error

    def send(self, message: bytes) -> None:
        """Send a message as flow control permits. Nothing is sent while no stream is open."""
        if self.stream:
            self._unsent += struct.pack("!BI", 0, len(message)) + message
            self._flush()

    def to_send(self) -> bytes:
        """The bytes to put on the wire now."""
        return self._http.data_to_send()

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._close()
                self.stream = event.stream_id
            case DataReceived():
                self._received += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self._ended = True
            case StreamReset() if event.stream_id == self.stream:
                self._close()
            case ConnectionTerminated():
                self._close()

    def _answer(self, *, begins: bool) -> None:
        """Send what flow control permits. After all events, since the last one may end the stream of the first."""
        if not self.stream:
            return
        if begins:
            self._http.send_headers(self.stream, _HEAD)
        self._flush()
        if self._ended:
            self._http.send_headers(self.stream, _TRAILERS, end_stream=True)
            self._close()

    def _close(self) -> None:
        """End the stream, and drop what was to be read or sent on it."""
        self.stream = 0
        self._ended = False
        self._received.clear()
        self._unsent.clear()

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
        while self._unsent:
            allowed = min(self._http.max_outbound_frame_size, self._http.local_flow_control_window(self.stream))
            if allowed <= 0:
                return
            self._http.send_data(self.stream, bytes(self._unsent[:allowed]))
            del self._unsent[:allowed]
