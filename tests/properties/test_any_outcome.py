"""Whatever a handler returns or raises, its call is answered, its slot is free again, and the next call works."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from tests.figures import examples
from tests.waiting import turns, until
from websockets.asyncio.client import unix_connect
from websockets.exceptions import WebSocketException

import kaon
from kaon.clock import FakeClock
from kaon.errors import ItemError, KaonError
from kaon.runtime.access_list import AccessList
from kaon.runtime.app import App
from kaon.runtime.inflight import Flights
from kaon.runtime.protocol import ReplicaProtocol
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.server import bound, server
from kaon.runtime.serving import Serving
from kaon.sdk.service import construct, service_of
from kaon.types.flight import flights
from kaon.types.key import Access

ACTS: list[Callable[[], Any]] = []
"""What the handlers do, one for each call of theirs."""


class Hostile:
    """Every special method that somebody may call raises."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def _raise(self, *_: object) -> Any:
        raise self.error("no")

    __len__ = __iter__ = __bool__ = __eq__ = __repr__ = __str__ = __getitem__ = __int__ = __float__ = _raise  # type: ignore[assignment]
    __hash__ = object.__hash__


class HostileList(list):  # type: ignore[type-arg]
    """A list as far as types go."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("no")

    __len__ = __iter__ = __getitem__ = __eq__ = _raise  # type: ignore[assignment]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Pathless(KaonError):
    """An error of the service that no problem document can express."""

    status = 999

    def problem(self, request_id: str = "") -> dict[str, Any]:
        return {"detail": object()}


class NotEvenThat(KaonError):
    def __init__(self) -> None:
        super().__init__(object(), retry_after_s=float("nan"))  # type: ignore[arg-type]


def _raises(error: Any) -> Any:
    raise error


def _recurse() -> Any:
    return _recurse()


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> int:
    return 1


VALUES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 1,
    lambda: "text",
    lambda: b"\xff",
    lambda: float("nan"),
    lambda: np.float64(1.5),
    lambda: np.array(3),
    lambda: np.array([1, 2, 3]),
    lambda: np.array([object()]),
    lambda: [1],
    lambda: [[[]]],
    lambda: {"a": object()},
    lambda: "\ud800",
    lambda: 10**5000,
    lambda: HostileList([1]),
    lambda: [Hostile(ValueError)],
    lambda: _generator(),
    lambda: kaon.File(b"x", media_type="image/png"),
    lambda: ItemError("bad", index=0),
    lambda: [ItemError("bad")],
    lambda: Exception,
    lambda: lambda: None,
    *(partial(Hostile, kind) for kind in (ValueError, KeyError, RecursionError, KeyboardInterrupt, SystemExit)),
]
ERRORS: list[Any] = [
    ValueError("no"),
    KeyError(),
    Unprintable(),
    Pathless(),
    NotEvenThat(),
    StopIteration(1),
    StopAsyncIteration(),
    GeneratorExit(),
    KeyboardInterrupt(),
    SystemExit(1),
    BaseException("no"),
    asyncio.CancelledError(),
    TimeoutError(),
    MemoryError(),
    RecursionError(),
    ItemError("bad"),
    ItemError("bad", index=7),
    ItemError("bad", index="x"),  # type: ignore[arg-type]
    HTTPException(418, detail="short"),
    HTTPException(404, detail=[object()], headers={"x-said": "a\r\nset-cookie: admin=1"}),  # type: ignore[arg-type]
    HTTPException(200),
    HTTPException(503, headers=[1]),  # type: ignore[arg-type]
    ExceptionGroup("several", [ValueError("no")]),
    UnicodeEncodeError("ascii", "ä", 0, 1, "no"),
]
outcomes = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(ERRORS).map(lambda error: partial(_raises, error)),
    st.just(_recurse),
)


def _act() -> Any:
    return ACTS.pop(0)() if ACTS else None


@kaon.service
class Anything:
    """One endpoint of each kind of lane; without an act they answer what is right."""

    @kaon.endpoint(concurrency=1)
    async def on_loop(self) -> Any:
        return _act()

    @kaon.endpoint(concurrency=1)
    async def later_on_loop(self) -> list[int]:
        await turns(1)
        return _act() or [1]

    @kaon.endpoint(concurrency=1)
    def in_thread(self) -> Any:
        return _act()

    @kaon.endpoint(concurrency=1)
    async def with_head(self, response: kaon.Response) -> Any:
        response.headers["x-said"] = "right"
        return _act()

    @kaon.endpoint(batch=kaon.Batch(max_size=4), concurrency=1)
    def batch_in_thread(self, rows: list[int]) -> list[Any]:
        return _act() if ACTS else rows

    @kaon.endpoint(batch=kaon.Batch(max_size=4), concurrency=1)
    async def batch_on_loop(self, rows: list[int]) -> Any:
        return _act() if ACTS else rows

    @kaon.endpoint(concurrency=1)
    def stream_in_thread(self) -> Iterator[Any]:
        yield 1
        yield _act()

    @kaon.endpoint(concurrency=1)
    async def stream_on_loop(self) -> AsyncIterator[Any]:
        yield _act()
        await turns(1)
        yield _act()

    @kaon.endpoint(concurrency=1)
    async def bytes_on_loop(self) -> AsyncIterator[bytes]:
        yield b"1"
        yield _act() or b""

    @kaon.endpoint(concurrency=1)
    async def talk(self, socket: kaon.WebSocket) -> None:
        acts = ACTS.copy()
        if len(acts) % 2:
            _act()
        await socket.accept()
        _act()


KINDS = [
    "on-loop",
    "later-on-loop",
    "in-thread",
    "with-head",
    "batch-in-thread",
    "batch-on-loop",
    "stream-in-thread",
    "stream-on-loop",
    "bytes-on-loop",
    "talk",
]


async def _call(client: httpx2.AsyncClient, socket: str, kind: str) -> None:
    if kind == "talk":
        try:
            async with unix_connect(socket, "ws://replica/talk", close_timeout=60) as talk:
                await talk.recv()
        except (WebSocketException, OSError):
            return
    try:
        await client.post(f"/{kind}", json={"rows": [1, 2]} if kind.startswith("batch") else {})
    except httpx2.RemoteProtocolError:
        assert kind == "bytes-on-loop"  # what has begun as bytes can only break off


async def _quiet(serving: Serving) -> None:
    await until(lambda: not any(lane.busy or lane.in_flight for lane in serving.lanes), "all slots are free")


async def _check(plan: list[tuple[str, list[Callable[[], Any]]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "s")
        notes = Path(folder) / "flights"
        door = RequestChecks(AccessList(Access(public=True), FakeClock()))
        serving = Serving(door, asyncio.get_running_loop(), flights=Flights(notes))
        serving.open(service_of(Anything), construct(service_of(Anything), {}))
        public = server(App(serving), http=partial(ReplicaProtocol, serving), keep_alive_s=60, drain_s=1)
        task = asyncio.create_task(public.serve(sockets=[bound(f"unix:{path}")]))
        transport = httpx2.AsyncHTTPTransport(uds=path, verify=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://replica", timeout=60) as client:
            for kind, acts in plan:
                ACTS[:] = acts
                await asyncio.gather(*[_call(client, path, kind) for _ in range(2)])
                await _quiet(serving)
                assert flights(notes.read_bytes(), 0.0) == (), "no call is noted as in flight any more"
                ACTS.clear()
                if kind != "talk":
                    right = await client.post(f"/{kind}", json={"rows": [3]} if kind.startswith("batch") else {})
                    assert right.status_code == 200, (kind, right.text)
            await _quiet(serving)
        serving.close()
        public.should_exit = True
        await task


@pytest.mark.timeout(6 * examples(100))
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.lists(outcomes, min_size=1, max_size=4)), min_size=1, max_size=6))
def test_whatever_a_handler_does_the_next_call_works(plan: list[tuple[str, list[Callable[[], Any]]]]) -> None:
    asyncio.run(_check(plan))
