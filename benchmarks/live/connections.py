"""Keep-alive HTTP/1.1 connections of one target: a call takes an idle one, or a new one while there may be more.

As little as can be: a request is bytes made once, an answer is its status and its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

KEPT_S = 30.0
"""A connection that was idle for longer is not used again: the edge hangs up after a minute, perhaps in that moment."""
BROKEN = 0
"""Instead of a status: the connection could not be had, or ended before the answer did."""


class Caller(Protocol):
    """Who waits for an answer."""

    def sent(self) -> None:
        """The request left."""

    def answered(self, status: int) -> None:
        """The answer is complete, or the connection broke (`BROKEN`)."""


@dataclass(frozen=True)
class Target:
    """The target of calls, and the bytes of each."""

    name: str
    url: str
    body: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def request(self) -> bytes:
        """The bytes of a call."""
        parts = urlsplit(self.url)
        host, body = parts.netloc, self.body.encode()
        head = [f"POST {parts.path or '/'} HTTP/1.1", f"host: {host}", "content-type: application/json"]
        head += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join([*head, f"content-length: {len(body)}"]) + "\r\n\r\n").encode() + body


class Connection(asyncio.Protocol):
    """One connection, and the call that it carries now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._caller: Caller | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.idle_since_s = 0.0

    def carry(self, caller: Caller) -> None:
        """Send the call."""
        assert self._transport is not None
        self._caller = caller
        self._transport.write(self._pool.request)
        caller.sent()

    def abort(self) -> None:
        """The caller gives up and closes the connection."""
        self._caller = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(BROKEN)

    def on_message_complete(self) -> None:
        status = int(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            caller, self._caller = self._caller, None
            self._parser = httptools.HttpResponseParser(self)
            self._pool.idle(self)
            if caller is not None:
                caller.answered(status)
        else:
            self._end(status)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end(BROKEN)
        self._pool.gone(self)

    def _end(self, status: int) -> None:
        caller, self._caller = self._caller, None
        if self._transport is not None:
            self._transport.abort()
        if caller is not None:
            caller.answered(status)


class Pool:
    """The connections to one target: `most` of them; calls beyond wait here, and `waited` counts them."""

    def __init__(self, target: Target, most: int) -> None:
        self.request = target.request()
        self.waited = 0
        self.opened = 0
        self._address = target.address
        self._most = most
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[Caller, Callable[[Connection], None]]] = deque()

    def call(self, caller: Caller, carried: Callable[[Connection], None]) -> None:
        """Send the call once a connection is free; `carried` is called with that connection."""
        oldest_s = asyncio.get_running_loop().time() - KEPT_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since_s < oldest_s:
                connection.abort()
                continue
            carried(connection)
            connection.carry(caller)
            return
        self._waiting.append((caller, carried))
        if len(self._open) + len(self._opening) < self._most:
            self._open_one()
        else:
            self.waited += 1

    def withdraw(self, caller: Caller) -> None:
        """The caller gave up before it had a connection."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not caller)

    def idle(self, connection: Connection) -> None:
        """The connection is free: for who waits longest, else for who comes next."""
        if self._waiting:
            caller, carried = self._waiting.popleft()
            carried(connection)
            connection.carry(caller)
        else:
            connection.idle_since_s = asyncio.get_running_loop().time()
            self._idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """The connection is closed; one that somebody waits for is opened in its place."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if len(self._waiting) > len(self._opening):
            self._open_one()

    async def close(self) -> None:
        """Hang up everywhere."""
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()

    def _open_one(self) -> None:
        task = asyncio.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._address)
        except OSError:
            if self._waiting:
                self._waiting.popleft()[0].answered(BROKEN)
            return
        self.opened += 1
        self._open.add(connection)
        self.idle(connection)
