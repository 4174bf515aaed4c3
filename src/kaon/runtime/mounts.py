"""Mounted apps: their lifespans, their scopes, and checks of the response heads that they send.

An app sees the address that its callers see. The edge removes its prefix from the path and sends it as
`X-Forwarded-Prefix`; it is added again, so that redirects and links are right. Forwarded headers are trusted on unix
sockets only, which only the edge can connect to.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

from kaon.runtime.asgi import AsgiScope, Message
from kaon.runtime.wsgi import WsgiApp
from kaon.sdk.service import arguments_of
from kaon.types import headers

_log = logging.getLogger("kaon.runtime")

MOST_OPEN = 2048
"""Requests and websockets that the mounted apps of a replica have open at once: as many as an async endpoint may have,
with those that wait."""
GONE_S = 5.0
"""How long a mounted app or a websocket's handler may run on after its caller disconnected."""
_STOP_S = 10.0
_PREFIX = re.compile(rb"(/[A-Za-z0-9._~-]+)+")
_ASGI = {"version": "3.0", "spec_version": "2.0"}


class Mounts:
    """The mounted apps by path, and their lifespans."""

    def __init__(self, apps: Mapping[str, Any]) -> None:
        self.apps = dict(apps)
        """Path -> app as the service has it."""
        adapted = {id(app): WsgiApp(app) if arguments_of(app) == 2 else app for app in apps.values()}
        innermost = sorted(apps.items(), key=lambda item: -len(item[0]))
        self._apps = {path: adapted[id(app)] for path, app in innermost}
        self._lifespans: dict[int, _Lifespan] = {}

    async def start(self) -> None:
        """Run each app's startup. Raises RuntimeError with the reason of the first that fails."""
        for path, app in self._apps.items():
            if id(app) not in self._lifespans:
                self._lifespans[id(app)] = lifespan = _Lifespan(path, app)
                await lifespan.start()

    async def stop(self) -> None:
        """Run each started app's shutdown, last one first, within `_STOP_S` in all."""
        try:
            async with asyncio.timeout(_STOP_S):
                while self._lifespans:
                    await self._lifespans.popitem()[1].stop()
        except TimeoutError:
            _log.error("a mounted app did not end in time")
        for app in self._apps.values():
            if isinstance(app, WsgiApp):
                app.close()

    def find(self, path: str) -> tuple[str, Any] | None:
        """The innermost mount that contains `path`: where it is mounted, and the app."""
        return next(((at, app) for at, app in self._apps.items() if f"{path}/".startswith(f"{at}/")), None)

    def scope(self, at: str, app: Any, scope: AsgiScope) -> AsgiScope:
        """The scope of a request for the app mounted at `at`."""
        lifespan = self._lifespans.get(id(app))
        state = dict(lifespan.state) if lifespan is not None else {}
        fields: dict[bytes, bytes] = dict(scope["headers"]) if scope.get("client") is None else {}
        prefix = fields.get(b"x-forwarded-prefix", b"")
        outer = prefix if _PREFIX.fullmatch(prefix) else b""
        inner = {
            **scope,
            "root_path": outer.decode() + at,
            "path": outer.decode() + scope["path"],
            "raw_path": outer + scope["raw_path"],
            "state": state,
            "extensions": {k: v for k, v in scope.get("extensions", {}).items() if not k.startswith("kaon.")},
        }
        if fields.get(b"x-forwarded-proto") == b"https":
            inner["scheme"] = "wss" if scope["type"] == "websocket" else "https"
        if client := fields.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1"):
            inner["client"] = (client, 0)
        return inner


class _Lifespan:
    """One app's lifespan: a task from its start to its end."""

    def __init__(self, path: str, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._path = path
        self._app = app
        self._ending = asyncio.Event()
        self._acknowledged = asyncio.Event()
        """Set when startup, and later shutdown, is complete."""
        self._startup_sent = False
        self._failed = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"lifespan of {self._path}")
        await self._acknowledged.wait()
        if self._failed:
            self._task.cancel()
            raise RuntimeError(f"the app mounted at {self._path} did not start: {self._failed}")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            self._acknowledged.clear()
            self._ending.set()
            await self._acknowledged.wait()
            self._task.cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": _ASGI, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # an app without lifespan support raises any error (ASGI, "Lifespan Protocol")
            _log.debug("the app mounted at %s has no lifespan: %s", self._path, type(error).__name__)
        except BaseException as error:
            self._failed = f"it raised {type(error).__name__}"
        finally:
            self._acknowledged.set()

    async def _receive(self) -> Message:
        if not self._startup_sent:
            self._startup_sent = True
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            self._failed = str(message.get("message", "")).strip() or "it gave no reason"
        self._acknowledged.set()


def check_head(message: Message) -> None:
    """Raises ValueError when a message of user code begins a response with an invalid head."""
    kind = message["type"]
    if kind not in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
        return
    status, fields = message.get("status", 101), list(message.get("headers") or ())
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"{status!r} is not an HTTP status")
    headers.check((name, value.strip(b" \t")) for name, value in fields)
    if any(name.lower() == b"content-length" and not value.strip().isdigit() for name, value in fields):
        raise ValueError("the header content-length is not a number")
    protocol = message.get("subprotocol")
    if protocol and not headers.is_name(protocol):
        raise ValueError(f"{protocol[:80]!r} is not the name of a subprotocol")
