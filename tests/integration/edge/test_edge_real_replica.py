"""A real replica behind a real edge: websockets of browsers, and what counts as no call."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.replicas import replica_status
from tests.unit.runtime.replica_process import Process
from websockets import Subprotocol

from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory, step
from kaon.laws.traffic import merge
from kaon.types.figures import ReplicaFigures
from kaon.types.key import Access, Grant, key_hash
from kaon.types.route import ReplicaEndpoint
from kaon.types.traffic import Sample

from .world import World, route

SERVICE = """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
import kaon

async def talk(socket: kaon.WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{text} {socket.headers.get('sec-websocket-protocol')}")

@kaon.service(mounts={"/ui": Starlette(routes=[WebSocketRoute("/talk", talk)])})
class Work:
    @kaon.endpoint
    async def talk(self, socket: kaon.WebSocket) -> None:
        await talk(socket)

    @kaon.endpoint(method="GET")
    async def echo(self, text: str) -> str:
        return text
"""
KEY, PAGE, SHOP = "kaon_good", "https://app.example", ("default", "shop")
GOOD, WRONG = {"authorization": f"Bearer {KEY}"}, {"authorization": "Bearer wrong"}
OFFER = [Subprotocol("kaon"), Subprotocol(f"kaon.key.{KEY}")]


@pytest.fixture
def process() -> Iterator[Process]:
    access = Access(grants=(Grant(hash=key_hash(KEY), key="page"),))
    with tempfile.TemporaryDirectory(prefix="kaon-") as folder:
        started = Process(Path(folder), SERVICE, {}, {}, access=access)
        try:
            yield started.ready()
        finally:
            started.close()


async def serve(world: World, process: Process, **fields: Any) -> None:
    addresses = {"address": f"unix:{process.folder}/s", "control_address": f"unix:{process.folder}/c"}
    endpoint = ReplicaEndpoint(replica="a", revision=1, **addresses)
    await world.edge.apply((route(closed=True, **fields),), {SHOP: (endpoint,)})


async def test_a_browser_talks_through_the_edge(world: World, process: Process) -> None:
    await serve(world, process, cors_origins=(PAGE,), stream_paths=("/talk", "/ui"))
    port, here = world.settings.port, {"host": "127.0.0.1", "port": world.settings.port}
    for host, path in (("127.0.0.1", "/shop/talk"), ("127.0.0.1", "/shop/ui/talk"), ("shop.localhost", "/talk")):
        uri, own = f"ws://{host}:{port}{path}", f"http://{host}:{port}"
        for origin in (own, PAGE):
            async with websockets.connect(uri, origin=origin, subprotocols=OFFER, **here) as socket:
                assert socket.subprotocol == "kaon"
                await socket.send("hello")
                assert await socket.recv() == "hello None"
        for origin, offer, status in (("https://evil.example", OFFER, 403), (own, OFFER[:1], 401)):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(uri, origin=origin, subprotocols=offer, **here).__aenter__()
            assert refused.value.response.status_code == status, (uri, origin)


async def test_wrong_keys_and_documents_are_no_traffic(world: World, process: Process) -> None:
    await serve(world, process)
    memory: TrafficHistory | None = None
    samples: list[Sample] = []
    now = 0.0

    async def look() -> None:
        nonlocal memory, now
        now += 1.0
        edge, figures = await world.edge.counts(), process.control.get("/figures").content
        read = ReplicaFigures.model_validate_json(figures).model_copy(update={"at_s": now})
        memory, found = step("here", memory, TrafficReading(now, now, edge, {"a": read}, (replica_status(),)))
        samples.extend(found)

    await look()
    for _ in range(40):  # more than the replica takes of one address in a minute
        assert (await world.client.get("/shop/echo?text=x", headers=WRONG)).status_code in (401, 429)
    for _ in range(3):
        assert (await world.client.get("/shop/openapi.json", headers=GOOD)).status_code == 200
        assert (await world.client.get("/shop/docs")).status_code == 200
        assert (await world.client.get("/shop/echo?text=x", headers=GOOD)).text == '"x"'
    assert (await world.client.get("/shop/nothing", headers=GOOD)).status_code == 404

    await look()
    found = merge(samples)
    assert (found.arrivals, found.codes) == (4, {"2xx": 3, "4xx": 1})
