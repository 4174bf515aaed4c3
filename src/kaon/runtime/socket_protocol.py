"""uvicorn's WebSocket protocol, with a limit per endpoint, and with word for the handler when its caller is gone.

Two things differ from the parent beside that: whoever sends a message that is too large is told so before the
connection ends (closing while data comes in would reset it, and the close frame would be lost), and a caller whose pong
waits behind a message that the handler has not taken yet is not thought dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from kaon.runtime.serving import Serving

CONNECTION = "kaon.connection"
"""The name of this object among a scope's extensions."""
_LINGER_S = 1.0
"""How long what a caller still sends is read and dropped after the connection has failed."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, serving: Serving, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._serving = serving
        self.on_lost: Callable[[], object] | None = None
        """Called when the connection is gone."""

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
        self.conn.max_message_size = self._serving.max_message_bytes(path)
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
