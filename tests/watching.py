"""A reader of a watch over an ASGI app, whose connection may be cut and made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI

from kaon.client.events import EventReader, ServerEvent
from kaon.client.watch import ResourceChange, Watch
from kaon.types.kind import Kind

PATIENCE_S = 30.0


class Refused(Exception):
    """The answer was no stream."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.problem: dict[str, Any] = json.loads(body)


class Connection:
    """One request for a stream, until it is cut."""

    def __init__(self, app: FastAPI, path: str, key: str, query: dict[str, Any], headers: dict[str, str]) -> None:
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._cut = asyncio.Event()
        self._asked = False
        given = {"host": "localhost", "authorization": f"Bearer {key}", **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": f"/api/v1{path}",
            "raw_path": f"/api/v1{path}".encode(),
            "query_string": urlencode(query).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("10.0.0.9", 1),
            "server": ("localhost", 80),
            "root_path": "",
        }
        self._task = asyncio.ensure_future(self._run(app, scope))

    async def status(self) -> int:
        """Of the answer."""
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.shield(self._status)

    async def cut(self) -> None:
        """Close it from the client's side."""
        self._cut.set()
        await self._task

    async def _run(self, app: FastAPI, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self.chunks.put_nowait(None)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._cut.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status.set_result(message["status"])
        else:
            self.chunks.put_nowait(message.get("body", b""))


class Reader:
    """Reads a watch: `current` are the resources that follow from it, `events` all that were received."""

    def __init__(self, app: FastAPI, kind: Kind, path: str, key: str, **query: Any) -> None:
        self._app = app
        self._path = path
        self._key = key
        self._query = query
        self.watch = Watch(kind)
        self._kind = kind
        self.current: dict[Any, Any] = {}
        self.events: list[ServerEvent] = []
        self.changes: list[ResourceChange] = []
        self._connection: Connection | None = None
        self._events = EventReader()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def connect(self) -> None:
        """Begin, or continue. Raises `Refused` for anything but a stream and 410, after which it begins anew."""
        since = {} if self.watch.since is None else {"since": self.watch.since}
        connection = Connection(self._app, self._path, self._key, {**self._query, "watch": "true", **since}, {})
        status = await connection.status()
        if status == 200:
            self._connection, self._events = connection, EventReader()
            return
        body = b""
        while (chunk := await connection.chunks.get()) is not None:
            body += chunk
        if status != 410:
            raise Refused(status, body)
        self.watch.restart()
        await self.connect()

    async def cut(self) -> None:
        """Lose the connection with everything that was not read yet."""
        if self._connection is not None:
            await self._connection.cut()
            self._connection = None

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Read until something holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():
                await self.read()

    async def read(self) -> bool:
        """Take what comes next, and all that came with it; False: the stream has ended."""
        assert self._connection is not None
        chunks = [await self._connection.chunks.get()]
        while not self._connection.chunks.empty():
            chunks.append(self._connection.chunks.get_nowait())
        for chunk in chunks:
            if chunk is None:
                self._connection = None
                return False
            for event in self._events.feed(chunk):
                self.events.append(event)
                for change in self.watch.take(event):
                    self._apply(change)
        return True

    def _apply(self, change: ResourceChange) -> None:
        self.changes.append(change)
        if change.what == "synced":
            return
        key = self._kind.order(change.view)
        assert (key in self.current) == (change.what in ("changed", "deleted")), change
        if change.what == "deleted":
            del self.current[key]
        else:
            self.current[key] = change.view
