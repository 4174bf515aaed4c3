"""uvicorn as a replica runs it: on a socket that is bound already, without its own signal handlers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

_BACKLOG = 2048


class Server(uvicorn.Server):
    """A uvicorn server without signal handlers. Set `should_exit = True` to end it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, *, http: Callable[..., Any] | str, keep_alive_s: float, drain_s: float) -> Server:
    """A server for `app`; call its `serve(sockets=[...])`."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=http,  # type: ignore[arg-type]
        ws=_websockets,  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    return Server(config)


def bound(address: str) -> socket.socket:
    """A listening socket at `unix:/path` or `host:port`. A unix socket is for its owner only. Raises OSError."""
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        os.chmod(path, 0o600)
    else:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), int(port)))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _websockets(**kwargs: Any) -> Any:
    """Uvicorn's websocket protocol, imported by the first one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**kwargs)
