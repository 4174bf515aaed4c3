"""The network link of a handle to a deployment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from kaon.client.client import AsyncClient, AsyncReply, Client
from kaon.client.deployment import ClientCall, value_of


class NetworkLink:
    """Calls a deployment by name, with one client for all threads and one for each event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = Client(name)
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def call(
        self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Callable[[str, bytes], Any] | None
    ) -> Any:
        """The answer, or an iterator of a stream's items. Raises KaonError."""
        return self._client._send(ClientCall(endpoint, arguments, body), read or value_of)

    def acall(
        self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Callable[[str, bytes], Any] | None
    ) -> AsyncReply:
        """The same for coroutines."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._of_loops:
                self._of_loops[loop] = AsyncClient(self._name)
            client = self._of_loops[loop]
        return client._send(ClientCall(endpoint, arguments, body), read or value_of)
