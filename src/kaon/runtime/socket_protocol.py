"""uvicorn's WebSocket protocol with a message limit per endpoint, and a callback when the connection is lost.

Two more differences: the sender of a message that is too large gets a close frame (closing while data arrives would
reset the connection and lose the frame), and a caller is not disconnected for a missing pong that waits behind a
message which the handler has not received yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from kaon.runtime.serving import Serving

CONNECTION = "kaon.connection"
"""Its name in a scope's extensions."""
_LINGER_S = 1.0
"""How long incoming data is read and dropped after the connection has failed."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, serving: Serving, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._serving = serving
        self.on_lost: Callable[[], object] | None = None
        """Called when the connection is lost."""

    def abort(self) -> None:
        """End the connection now."""
        self.transport.abort()

    def fail(self, code: int, reason: str) -> None:
        """Send a close frame, if the handshake is done, and end the connection."""
        if self.handshake_complete and not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()
        elif not self.handshake_complete:
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        path = event.path.partition("?")[0]
        limit = "max_message_size" if hasattr(self.conn, "max_message_size") else "max_size"  # before websockets 16
        setattr(self.conn, limit, self._serving.max_message_bytes(path))
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][CONNECTION] = self  # type: ignore[assignment]

    def handle_parser_exception(self) -> None:
        if self.close_sent:
            return
        closed = self.conn.close_sent
        code, reason = (1006, "") if closed is None else (closed.code, closed.reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def keepalive_timeout(self) -> None:
        if not self.read_paused:
            super().keepalive_timeout()
            return
        self.pong_timer, self.pending_ping_payload = None, None
        self.schedule_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
