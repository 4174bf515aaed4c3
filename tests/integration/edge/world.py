"""A real Envoy over a temporary folder, and replicas that are as small as can be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from tests.waiting import until

from kaon.edge import Edge, stats
from kaon.edge.resources import address_of
from kaon.settings import Settings
from kaon.types.route import Backend, ReplicaEndpoint, Route

App = Callable[[Any, Any, Any], Awaitable[None]]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Replica:
    """A service socket with an ASGI app behind it, and a control socket that is ready or not."""

    def __init__(self, folder: Path, name: str, app: App, revision: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self.ready = True
        self.endpoint = ReplicaEndpoint(
            replica=name,
            revision=revision,
            address=f"unix:{folder / name}.service.sock",
            control_address=f"unix:{folder / name}.control.sock",
        )
        self._servers = [
            _Server(
                uvicorn.Config(
                    a,
                    uds=address.removeprefix("unix:"),
                    interface="asgi3",
                    lifespan="off",
                    log_level="warning",
                    **options,
                )
            )
            for a, address, options in (
                (self._counted(app), self.endpoint.address, {"ws": "websockets-sansio", "timeout_keep_alive": 75}),
                (self._control, str(self.endpoint.control_address), {"timeout_keep_alive": 75}),
            )
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def _counted(self, app: App) -> App:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.calls.append((scope.get("method", "WS"), scope["path"]))
            try:
                await app(scope, receive, send)
            except ConnectionAbortedError:
                for connection in list(self._servers[0].server_state.connections):
                    connection.transport.abort()

        return counted

    async def _control(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200 if self.ready else 503, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(server.serve()) for server in self._servers]
        await until(lambda: all(server.started for server in self._servers))

    async def stop(self) -> None:
        """End as a killed process ends: sockets closed, connections cut."""
        for server in self._servers:
            server.force_exit = True
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def broken(scope: Any, receive: Any, send: Any) -> None:
    """Takes a call and breaks off before it answers, as a replica that is killed does."""
    await receive()
    raise ConnectionAbortedError


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the request, as text."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = b"".join(b"%s: %s\n" % (k, v) for k, v in scope["headers"])
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    text = scope["method"].encode() + b" " + scope["path"].encode() + query + b"\n" + headers + b"\n"
    found = [(b"x-size", b"%d" % len(body)), (b"x-raw-path", scope["raw_path"])]
    start = {"type": "http.response.start", "status": 200, "headers": found}
    await send(start)
    await send({"type": "http.response.body", "body": text})


@dataclass
class Leaving:
    """A replica that leaves as soon as it has answered its last call, and the one that stays."""

    world: World
    old: Replica
    new: Replica
    call: asyncio.Task[httpx2.Response]
    answer_now: asyncio.Event

    async def is_let_go(self) -> None:
        """Let it answer, and wait until the edge has forgotten it."""
        self.answer_now.set()
        assert (await self.call).status_code == 200
        await self.world.serve(self.new)

        async def forgotten() -> bool:
            return (await self.world.edge.in_flight()).get(self.old.endpoint.address) is None

        await until(forgotten)


class World:
    """An edge and what stands behind it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.settings = Settings(home=folder / "home", port=port, **settings)
        self.url = self.settings.url
        self.edge = Edge(self.settings)
        self.task: asyncio.Task[None] | None = None
        self.replicas: list[Replica] = []
        self.client = httpx2.AsyncClient(base_url=self.url, timeout=60, verify=False)

    async def replica(self, name: str = "a", app: App = echo, revision: int = 1) -> Replica:
        replica = Replica(self.folder, name, app, revision)
        await replica.start()
        self.replicas.append(replica)
        return replica

    def supervise(self) -> None:
        self.task = asyncio.create_task(self.edge.run())

    async def serve(self, *replicas: Replica, name: str = "shop", **fields: Any) -> None:
        """Route `/shop` to these replicas, and return when it is so."""
        await self.edge.apply((route(name, **fields),), {("default", name): tuple(r.endpoint for r in replicas)})

    async def known(self, replica: Replica) -> bool:
        """Whether Envoy has checked the replica and found it healthy."""
        found = json.loads(await stats.ask(self.edge.layout.admin_socket, "GET", "/clusters?format=json"))
        hosts = [host for cluster in found["cluster_statuses"] for host in cluster.get("host_statuses", [])]
        own = [host for host in hosts if address_of(host["address"]) == replica.endpoint.address]
        sick = ("failed_active_health_check", "pending_active_hc")
        return bool(own) and not any(host["health_status"].get(sign) for host in own for sign in sick)

    async def leaving(self) -> Leaving:
        """`/shop` with a new replica, while the old one leaves and still has a call."""
        answer_now = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await answer_now.wait()
            await echo(scope, receive, send)

        old, new = await self.replica("old", waits), await self.replica("new")
        await self.serve(old)
        call = asyncio.create_task(self.client.post("/shop"))

        async def arrived() -> bool:
            return (await self.edge.in_flight()).get(old.endpoint.address) == 1

        await until(arrived)
        await self.serve(old, new)
        await until(lambda: self.known(new))  # without a healthy one, leaving ones are tried too
        await self.serve(new)
        return Leaving(self, old, new, call, answer_now)

    async def leave(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def close(self) -> None:
        await self.leave()
        await self.client.aclose()
        await self.edge.stop()
        for replica in self.replicas:
            await replica.stop()


async def raw(world: World, sent: bytes, *, bodiless: bool = False) -> tuple[int, bytes]:
    """Send bytes as they are; the answer's status, and its head and body as they came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.port)
    try:
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if bodiless:
            return int(head.split()[1]), head
        body = await reader.readexactly(int(length[0].split(b":")[1])) if length else await reader.read(65536)
        return int(head.split()[1]), head + body
    finally:
        writer.close()


def route(name: str = "shop", revisions: tuple[int, ...] = (1,), **fields: Any) -> Route:
    backends = tuple(Backend(revision=r, weight=100 // len(revisions)) for r in revisions)
    return Route(workspace="default", deployment=name, prefix=f"/{name}", backends=backends, **fields)
