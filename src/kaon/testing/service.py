"""A service over HTTP in a test: the real server of a replica on a port of this machine, keys and errors included.

def test_a_missing_product_is_404():
    with kaon.testing.client(Shop) as shop:
        assert shop.count(product="lamp") == 3
        assert shop.http.post("/count", json={"product": "chair"}).status_code == 404
"""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import httpx2

from kaon.client.client import Client
from kaon.clock import SystemClock
from kaon.runtime.access_list import AccessList
from kaon.runtime.app import App
from kaon.runtime.mounts import Mounts
from kaon.runtime.protocol import ReplicaProtocol
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.server import bound, server
from kaon.runtime.serving import Serving
from kaon.sdk.service import construct, service_of
from kaon.types.key import Access, Grant, key_hash

_KEEP_ALIVE_S = 60.0


class ServiceClient(Client):
    """`kaon.Client` of a service under test; `http` sends any request, with the key."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, key)
        self.url = url
        self.key = key
        """A key that may call the service; the service refuses others."""
        self.http = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key}"} if key else {}, timeout=60)


@contextmanager
def client(service: Any, *, env: Mapping[str, str] | None = None, public: bool = False) -> Iterator[ServiceClient]:
    """Serve a service over HTTP while the block runs, and give a client of it.

    Args:
        service: A class marked `@kaon.service`, or an instance of one.
        env: Settings of the class; by default the process's environment.
        public: Whether calls need no key.

    Calls that the service makes by `kaon.use` go where `kaon.local` directs them. Raises ConfigError for missing
    settings, and what the constructor or a start hook raises.
    """
    compiled = service_of(service)
    instance = construct(compiled, os.environ if env is None else env) if isinstance(service, type) else service
    key = "" if public else f"kaon_test_{secrets.token_hex(16)}"
    grants = () if public else (Grant(hash=key_hash(key), key="test"),)
    running = _Running(instance, Access(public=public, grants=grants))
    try:
        with ServiceClient(running.start(), key) as found:
            yield found
            found.http.close()
    finally:
        running.stop()


class _Running:
    """A service's server, on an event loop in a thread of its own."""

    def __init__(self, instance: Any, access: Access) -> None:
        self._service, self._instance, self._access = service_of(instance), instance, access
        self._socket = bound("127.0.0.1:0")
        self._ready: Future[None] = Future()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="kaon-testing", daemon=True)

    def start(self) -> str:
        """Start it; its URL. Raises what a start hook or a mounted app raises."""
        self._thread.start()
        self._ready.result()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        """Stop it, after its stop hooks."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the service has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        serving = Serving(RequestChecks(AccessList(self._access, SystemClock())), loop)
        await self._hooks(self._service.on_start)
        mounts = Mounts(self._service.mounted(self._instance))
        await mounts.start()
        serving.open(self._service, self._instance, mounts)
        http = partial(ReplicaProtocol, serving)
        public = server(App(serving), http=http, keep_alive_s=_KEEP_ALIVE_S, drain_s=1.0)
        task = asyncio.create_task(public.serve(sockets=[self._socket]))
        self._ready.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await mounts.stop()
            await self._hooks(self._service.on_stop)
            serving.close()
            public.should_exit = True
            await task

    async def _hooks(self, names: tuple[str, ...]) -> None:
        for name in names:
            result = getattr(self._instance, name)()
            if inspect.isawaitable(result):
                await result
