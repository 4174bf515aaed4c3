"""The HTTP server in front of the replicas of `kaon dev`: one port, requests forwarded whole, streams as they come."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import h11

from kaon.cli.dev.access_log import AccessRecord
from kaon.errors import InvalidInput, KaonError, Unavailable
from kaon.runtime.answers import problem_answer

_READ_BYTES = 64 * 1024
_HEAD_BYTES = 64 * 1024
_AHEAD_BYTES = 2**20
"""How much of a connection is read while its last request is not answered yet."""
_PER_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection"})
_OF_EDGES = (b"x-forwarded-", b"x-envoy-")

Event: TypeAlias = (
    h11.Request
    | h11.InformationalResponse
    | h11.Response
    | h11.Data
    | h11.EndOfMessage
    | h11.ConnectionClosed
    | type[h11.PAUSED]
)


@dataclass(frozen=True)
class Hop:
    """Where a request is forwarded to."""

    address: str
    """'unix:/path' or 'host:port'."""
    target: bytes
    prefix: bytes = b""
    """What was removed from the path."""


Find: TypeAlias = Callable[[bytes], Awaitable[Hop]]
"""The hop of a request's target. Raises KaonError."""


class Proxy:
    """Serves connections. Each call ends with `on_access`."""

    def __init__(self, find: Find, on_access: Callable[[AccessRecord], None]) -> None:
        self._find = find
        self._on_access = on_access

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection until its end."""
        client = _Peer(h11.SERVER, reader, writer)
        try:
            while await self._exchange(client):
                client.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            with suppress(h11.LocalProtocolError, OSError):
                await client.answer(InvalidInput(f"The request is not valid HTTP: {error}."), error.error_status_hint)
        except OSError:
            pass  # the caller disconnected
        finally:
            writer.close()

    async def _exchange(self, client: _Peer) -> bool:
        """One request and its answer; whether the connection can have another one."""
        request = await client.event()
        if not isinstance(request, h11.Request):
            return False
        began, status = time.monotonic(), 0
        try:
            status = await self._forwarded(client, request)
        except KaonError as error:
            status = error.status
            if client.http.our_state is h11.SEND_RESPONSE:
                await client.answer(error)
        finally:
            path = request.target.partition(b"?")[0].decode("latin-1")
            took_s = time.monotonic() - began
            self._on_access(AccessRecord(time.time(), request.method.decode(), path, status, took_s))
        return client.http.our_state is h11.DONE and client.http.their_state is h11.DONE

    async def _forwarded(self, client: _Peer, request: h11.Request) -> int:
        """The status of the request's answer. Raises `KaonError` when it cannot be forwarded or breaks off."""
        hop = await self._find(request.target)
        replica = await _connected(hop.address)
        try:
            await replica.send(_onward(request, hop))
            sending = asyncio.create_task(_send_body(client, replica))
            try:
                status = await _send_answer(replica, client)
            finally:
                sending.cancel()
                await asyncio.wait({sending})
            if status == 101:
                await _join(client, replica)
            return status
        finally:
            replica.close()


class _Peer:
    """One side of a connection."""

    def __init__(
        self, role: type[h11.CLIENT] | type[h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.http = h11.Connection(role, max_incomplete_event_size=_HEAD_BYTES)
        self.reader = reader
        self.writer = writer

    async def event(self) -> Event:
        """The next event from this side."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            self.http.receive_data(await self.reader.read(_READ_BYTES))

    async def send(self, event: h11.Event) -> None:
        """Send an event to this side."""
        if data := self.http.send(event):
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """End the connection."""
        self.writer.close()

    async def answer(self, error: KaonError, status: int | None = None) -> None:
        """Answer this side's request with an error, and end the connection."""
        found = problem_answer(error, "")
        headers = [*found.all_headers(""), (b"connection", b"close")]
        headers = [(name, value) for name, value in headers if name != b"x-request-id"]
        await self.send(h11.Response(status_code=status or found.status, headers=headers))
        await self.send(h11.Data(data=found.body))
        await self.send(h11.EndOfMessage())


class _Replica(_Peer):
    """The side of a replica, which may answer and close before it has read the whole request.

    A failed write must not end the reading, as it does with a stream's writer: the answer would be lost. So it writes
    to the same socket by another descriptor.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(h11.CLIENT, reader, writer)
        self._socket: socket.socket = writer.get_extra_info("socket").dup()

    async def _write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def close(self) -> None:
        super().close()
        self._socket.close()


async def _connected(address: str) -> _Replica:
    try:
        if address.startswith("unix:"):
            streams = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            streams = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        raise Unavailable("The service does not run any more.", hint="See its last lines above.") from None
    return _Replica(*streams)


def _onward(request: h11.Request, hop: Hop) -> h11.Request:
    """The request as the replica gets it: with the prefix as an edge sends it, and for one answer."""
    upgrade = any(name == b"upgrade" for name, _ in request.headers)
    headers = [
        (name, value)
        for name, value in request.headers
        if (upgrade or name not in _PER_HOP) and not name.startswith(_OF_EDGES)
    ]
    if not upgrade:
        headers.append((b"connection", b"close"))
    if hop.prefix:
        headers.append((b"x-forwarded-prefix", hop.prefix))
    if not any(name == b"host" for name, _ in headers):  # HTTP/1.0
        headers.append((b"host", b"127.0.0.1"))
    return h11.Request(method=request.method, target=hop.target, headers=headers)


async def _send_body(client: _Peer, replica: _Peer) -> None:
    """Forward the request's body; then end the connection to the replica when the caller disconnects.

    A replica that takes no more of the body, since it is too large, is left to answer.
    """
    with suppress(OSError, h11.RemoteProtocolError):
        while isinstance(event := await client.event(), h11.Data | h11.EndOfMessage):
            try:
                await replica.send(event)
            except (OSError, h11.LocalProtocolError):
                return
            if isinstance(event, h11.EndOfMessage):
                break
        ahead = 0
        while ahead < _AHEAD_BYTES and (data := await client.reader.read(_READ_BYTES)):
            client.http.receive_data(data)
            ahead += len(data)
        if ahead >= _AHEAD_BYTES:
            return
    replica.writer.close()  # ends the reading too; `close` follows


async def _send_answer(replica: _Peer, client: _Peer) -> int:
    """Forward the answer; its status. Raises `Unavailable` when there is none or it breaks off."""
    status = 0
    while True:
        try:
            event = await replica.event()
        except (OSError, h11.RemoteProtocolError):
            raise Unavailable(
                "The service ended before its answer was complete.", hint="See its lines above."
            ) from None
        if isinstance(event, h11.InformationalResponse):
            await client.send(event)
            if event.status_code == 101:
                return 101
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = [(name, value) for name, value in event.headers if name not in _PER_HOP]
            await client.send(h11.Response(status_code=status, headers=headers, reason=event.reason))
        elif isinstance(event, h11.Data):
            await client.send(event)
        elif isinstance(event, h11.EndOfMessage):
            await client.send(event)
            return status


async def _join(client: _Peer, replica: _Peer) -> None:
    """Forward bytes in both directions, as of a WebSocket, until one side ends."""
    tasks = {asyncio.create_task(_copy(*sides)) for sides in ((client, replica), (replica, client))}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _copy(source: _Peer, target: _Peer) -> None:
    data, _ = source.http.trailing_data
    with suppress(OSError):
        while data or (data := await source.reader.read(_READ_BYTES)):
            target.writer.write(data)
            await target.writer.drain()
            data = b""
