"""Which calls a replica records as in flight, and which requests it refuses."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.waiting import forever

import kaon
from kaon.types.refusals import Refusals

from .conftest import Serve

Eventually = Callable[..., Awaitable[None]]


@kaon.service(mounts={"/app": lambda gated: gated.apps})
class Gated:
    """Every handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self.gate, self.thread_gate = asyncio.Event(), threading.Event()
        self.apps = Starlette(routes=[Route("/page", self.page)])

    def open(self) -> None:
        self.gate.set()
        self.thread_gate.set()

    async def page(self, request: Request) -> PlainTextResponse:
        await self.gate.wait()
        return PlainTextResponse("done")

    @kaon.endpoint
    async def waits(self) -> str:
        await self.gate.wait()
        return "done"

    @kaon.endpoint(concurrency=1)
    def blocks(self) -> str:
        self.thread_gate.wait()
        return "done"

    @kaon.endpoint(batch=kaon.Batch(max_size=2))
    async def batched(self, numbers: list[int]) -> list[int]:
        await self.gate.wait()
        return numbers

    @kaon.endpoint
    async def streams(self) -> AsyncIterator[int]:
        await self.gate.wait()
        yield 1

    @kaon.endpoint
    async def fails(self) -> str:
        await self.gate.wait()
        raise RuntimeError("no")

    @kaon.endpoint(timeout_s=0.05)
    async def late(self) -> str:
        await forever()
        return "never"


@pytest.mark.parametrize("path", ["/waits", "/blocks", "/batched", "/streams", "/fails", "/app/page"])
async def test_a_call_of_every_kind_is_noted_until_it_ends(serve: Serve, eventually: Eventually, path: str) -> None:
    running = await serve(Gated)
    body: Any = {"numbers": [1]} if path == "/batched" else {}
    ask = running.client.get(path) if path == "/app/page" else None
    call = asyncio.create_task(ask or running.client.post(path, json=body, headers={"x-request-id": "mine"}))
    await eventually(lambda: bool(running.noted()))
    assert running.noted() == ["mine"] or path == "/app/page"
    running.instance.open()
    await call
    await eventually(lambda: running.noted() == [])


async def test_a_call_that_waits_for_a_slot_is_not_in_flight_yet(serve: Serve, eventually: Eventually) -> None:
    running = await serve(Gated)
    calls = [
        asyncio.create_task(running.client.post("/blocks", json={}, headers={"x-request-id": name}))
        for name in ("first", "second")
    ]
    await eventually(lambda: running.lane("blocks").queued == 1)
    assert len(running.noted()) == 1
    running.instance.open()
    await asyncio.gather(*calls)
    await eventually(lambda: running.noted() == [])


async def test_a_call_that_runs_out_of_time_or_of_its_caller_is_in_flight_no_more(
    serve: Serve, eventually: Eventually
) -> None:
    running = await serve(Gated)
    assert (await running.client.post("/late", json={})).status_code == 504
    assert running.noted() == []
    call = asyncio.create_task(running.client.post("/waits", json={}))
    await eventually(lambda: len(running.noted()) == 1)
    call.cancel()
    await eventually(lambda: running.noted() == [])


async def test_a_poison_request_is_refused_on_every_way_in_and_others_are_not(serve: Serve) -> None:
    running = await serve(Gated)
    running.instance.open()
    told = await running.control_client.put("/refusals", json={"request_ids": ["bad"]})
    assert told.status_code == 204
    health = (await running.control_client.get("/ready")).json()
    assert health["refusals"] == Refusals(request_ids=("bad",)).named().version
    for path in ("/waits", "/streams", "/app/page"):
        for name, status in (("bad", 422), ("good", 200)):
            headers = {"x-request-id": name}
            method = "GET" if path == "/app/page" else "POST"
            answer = await running.client.request(method, path, headers=headers, json={} if method == "POST" else None)
            assert answer.status_code == status, path
            assert status == 200 or answer.json()["code"] == "poison-request"
    await running.control_client.put("/refusals", json={})
    assert (await running.client.post("/waits", json={}, headers={"x-request-id": "bad"})).status_code == 200
