"""The types of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def run_app(app: Any, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """An ASGI app as a coroutine, whatever awaitable it returns."""
    await app(scope, receive, send)
