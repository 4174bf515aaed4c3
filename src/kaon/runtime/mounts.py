"""Mounted ASGI apps, and what a server owes them: a lifespan, scopes that say the truth, heads that are checked.

An app sees the address that its callers see. Behind the edge that is more than the path of the request: the edge takes
its prefix away and says so in `X-Forwarded-Prefix`, which is put back, so that redirects and links come out right.
Such headers are believed on unix sockets only, since there nobody but the edge can connect.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

from kaon.runtime.asgi import AsgiScope, Message
from kaon.types import headers

_log = logging.getLogger("kaon.runtime")

GONE_S = 5.0
"""How long what works for a caller may go on when the caller is gone, if it could learn of that by itself."""
_STOP_S = 10.0
_PREFIX = re.compile(rb"(/[A-Za-z0-9._~-]+)+")
_ASGI = {"version": "3.0", "spec_version": "2.0"}


class Mounts:
    """Where apps are mounted, and their lifespans."""

    def __init__(self, apps: Mapping[str, Any]) -> None:
        self._apps = dict(sorted(apps.items(), key=lambda item: -len(item[0])))
        self._lives: dict[int, _Life] = {}

    async def start(self) -> None:
        """Let each app start. Raises RuntimeError with the reason of the one that cannot."""
        for path, app in self._apps.items():
            if id(app) not in self._lives:
                self._lives[id(app)] = life = _Life(path, app)
                await life.start()

    async def stop(self) -> None:
        """Let each app that was started end, the last one first, in `_STOP_S` together."""
        try:
            async with asyncio.timeout(_STOP_S):
                while self._lives:
                    await self._lives.popitem()[1].stop()
        except TimeoutError:
            _log.error("a mounted app did not end in time")

    def find(self, path: str) -> tuple[str, Any] | None:
        """The app that `path` belongs to, and where it is mounted: the innermost one."""
        return next(((at, app) for at, app in self._apps.items() if f"{path}/".startswith(f"{at}/")), None)

    def scope(self, at: str, app: Any, scope: AsgiScope) -> AsgiScope:
        """What the app mounted at `at` gets to know of a request."""
        life = self._lives.get(id(app))
        state = dict(life.state) if life is not None else {}
        fields: dict[bytes, bytes] = dict(scope["headers"]) if scope.get("client") is None else {}
        prefix = fields.get(b"x-forwarded-prefix", b"")
        outer = prefix if _PREFIX.fullmatch(prefix) else b""
        told = {
            **scope,
            "root_path": outer.decode() + at,
            "path": outer.decode() + scope["path"],
            "raw_path": outer + scope["raw_path"],
            "state": state,
            "extensions": {k: v for k, v in scope.get("extensions", {}).items() if not k.startswith("kaon.")},
        }
        if fields.get(b"x-forwarded-proto") == b"https":
            told["scheme"] = "wss" if scope["type"] == "websocket" else "https"
        if client := fields.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1"):
            told["client"] = (client, 0)
        return told


class _Life:
    """One app's lifespan: a task from its start to its end."""

    def __init__(self, path: str, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._path = path
        self._app = app
        self._ending = asyncio.Event()
        self._told = asyncio.Event()
        """Startup is over; then shutdown is."""
        self._asked = False
        self._failed = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"lifespan of {self._path}")
        await self._told.wait()
        if self._failed:
            self._task.cancel()
            raise RuntimeError(f"the app mounted at {self._path} did not start: {self._failed}")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            self._told.clear()
            self._ending.set()
            await self._told.wait()
            self._task.cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": _ASGI, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # an app without a lifespan says so by any error (ASGI, "Lifespan Protocol")
            _log.debug("the app mounted at %s has no lifespan: %s", self._path, type(error).__name__)
        except BaseException as error:
            self._failed = f"it asked to exit: {type(error).__name__}"
        finally:
            self._told.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            self._failed = str(message.get("message", "")).strip() or "it gave no reason"
        self._told.set()


def check_head(message: Message) -> None:
    """Raises ValueError when a message of user's code begins an answer that cannot be said."""
    kind = message["type"]
    if kind not in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
        return
    status, said = message.get("status", 101), list(message.get("headers") or ())
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"{status!r} is not the status of an answer")
    headers.check((name, value.strip(b" \t")) for name, value in said)
    if any(name.lower() == b"content-length" and not value.strip().isdigit() for name, value in said):
        raise ValueError("the header content-length is not a number")
    protocol = message.get("subprotocol")
    if protocol and not headers.is_name(protocol):
        raise ValueError(f"{protocol[:80]!r} is not the name of a subprotocol")
