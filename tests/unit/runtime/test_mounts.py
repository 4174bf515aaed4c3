"""A mounted app gets what any good server gives: lifespan, scope, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.waiting import forever
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import kaon
from kaon.runtime.mounts import Mounts
from kaon.types.key import Access

EVENTS: list[str] = []


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    EVENTS.append("up")
    yield {"model": "loaded"}
    EVENTS.append("down")


async def told(request: Request) -> JSONResponse:
    scope = request.scope
    return JSONResponse(
        {
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode(),
            "root_path": scope["root_path"],
            "scheme": scope["scheme"],
            "client": scope["client"] and scope["client"][0],
            "state": scope["state"],
            "extensions": list(scope["extensions"]),
            "url": str(request.url),
            "link": str(request.url_for("told")),
            "method": request.method,
        }
    )


async def redirect(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("told"))


async def injecting(request: Request) -> Response:
    response = PlainTextResponse("x")
    response.raw_headers.append((b"x-said", b"a\r\nset-cookie: admin=1"))
    return response


async def odd_status(request: Request) -> Response:
    return PlainTextResponse("x", status_code=999)


async def failing(request: Request) -> Response:
    raise RuntimeError("hunter2")


async def breaking(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("hunter2")

    return StreamingResponse(pieces())


async def exiting(request: Request) -> Response:
    raise SystemExit(1)


async def talk(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-root", socket.scope["root_path"].encode())])
    await socket.send_text(f"{socket.scope['scheme']} {socket.url} {socket.state.model}")
    await socket.close()


async def injecting_talk(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-said", b"a\r\nset-cookie: admin=1")])


inner = Starlette(routes=[Route("/told", told, name="told")])
ui = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", lambda request: PlainTextResponse("root")),
        Route("/told", told, name="told", methods=["GET", "POST", "OPTIONS"]),
        Route("/slash/", told),
        Route("/redirect", redirect),
        Route("/injecting", injecting),
        Route("/odd-status", odd_status),
        Route("/failing", failing),
        Route("/breaking", breaking),
        Route("/exiting", exiting),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/injecting-talk", injecting_talk),
        Mount("/sub", inner),
    ],
)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An app that knows no lifespan."""
    assert scope["type"] == "http"
    await PlainTextResponse("bare")(scope, receive, send)


@kaon.service(mounts={"/ui": ui, "/ui/admin": inner, "/again": ui, "/bare": bare})
class Mounted:
    @kaon.endpoint(method="GET")
    def ping(self) -> str:
        return "pong"


@pytest.fixture
async def running(serve: Any) -> AsyncIterator[Any]:
    EVENTS.clear()
    running = await serve(Mounted)
    await running.serving.mounts.start()
    yield running
    await running.serving.mounts.stop()


async def test_the_lifespan_runs_once_around_all_requests(running: Any) -> None:
    assert EVENTS == ["up"]
    assert (await running.client.get("/ui/told")).json()["state"] == {"model": "loaded"}
    assert (await running.client.get("/again/told")).json()["state"] == {"model": "loaded"}
    assert (await running.client.get("/bare")).text == "bare"
    await running.serving.mounts.stop()
    assert EVENTS == ["up", "down"]


async def test_an_app_that_cannot_start_says_why() -> None:
    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no model at /models/7")
        yield

    mounts = Mounts({"/ui": Starlette(lifespan=broken)})
    with pytest.raises(RuntimeError, match=r"(?s)mounted at /ui did not start: .*no model at /models/7"):
        await mounts.start()


async def test_scopes_say_the_address_that_callers_see(running: Any) -> None:
    behind = {
        "host": "kaon.example",
        "x-forwarded-prefix": "/shop/web",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "6.6.6.6, 10.1.2.3",
    }
    got = (await running.client.get("/ui/told?q=1", headers=behind)).json()
    assert got == {
        "path": "/shop/web/ui/told",
        "raw_path": "/shop/web/ui/told",
        "root_path": "/shop/web/ui",
        "scheme": "https",
        "client": "10.1.2.3",
        "state": {"model": "loaded"},
        "extensions": [],
        "url": "https://kaon.example/shop/web/ui/told?q=1",
        "link": "https://kaon.example/shop/web/ui/told",
        "method": "GET",
    }
    sub = (await running.client.get("/ui/sub/told", headers=behind)).json()
    assert (sub["root_path"], sub["path"]) == ("/shop/web/ui/sub", "/shop/web/ui/sub/told")
    admin = (await running.client.get("/ui/admin/told")).json()
    assert (admin["root_path"], admin["link"]) == ("/ui/admin", "http://replica/ui/admin/told")


@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", "/a\x80", "nothing", "/a/"])
async def test_a_prefix_that_is_none_is_left_out(running: Any, prefix: str) -> None:
    headers = {b"x-forwarded-prefix": prefix.encode("latin-1")}
    assert (await running.client.get("/ui/told", headers=headers)).json()["root_path"] == "/ui"


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/ui/redirect", "https://kaon.example/web/ui/told"),
        ("/ui/slash", "https://kaon.example/web/ui/slash/"),
        ("/ui", "https://kaon.example/web/ui/"),
    ],
)
async def test_redirects_come_out_right_behind_the_edge(running: Any, path: str, to: str) -> None:
    behind = {"host": "kaon.example", "x-forwarded-prefix": "/web", "x-forwarded-proto": "https"}
    assert (await running.client.get(path, headers=behind)).headers["location"] == to


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
async def test_every_method_reaches_the_app(running: Any, method: str) -> None:
    answer = await running.client.request(method, "/ui/told")
    assert (answer.status_code, answer.text == "") == (200, method == "HEAD")
    other = await running.client.request("DELETE", "/ui/told")
    assert (other.status_code, set(other.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST", "OPTIONS"})


@pytest.mark.parametrize("path", ["/ui/injecting", "/ui/odd-status", "/ui/failing", "/ui/exiting"])
async def test_what_an_app_cannot_say_is_an_error_and_no_silence(running: Any, path: str) -> None:
    answer = await running.client.get(path)
    assert (answer.status_code, "set-cookie" in answer.headers) == (500, False)
    assert "hunter2" not in answer.text
    assert running.serving.in_flight == 0


async def test_an_answer_that_breaks_off_is_no_whole_one(running: Any) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await running.client.get("/ui/breaking")
    assert (await running.client.get("/ui/")).text == "root"


async def test_websockets_of_mounted_apps(running: Any) -> None:
    behind = {"authorization": "Bearer kaon_testing", "x-forwarded-prefix": "/web", "x-forwarded-proto": "https"}
    async with unix_connect(running.path, "ws://kaon.example/ui/talk", additional_headers=behind) as socket:
        assert await socket.recv() == "wss wss://kaon.example/web/ui/talk loaded"
        assert socket.response is not None
        assert socket.response.headers["x-root"] == "/web/ui"
    with pytest.raises((InvalidStatus, ConnectionClosed, EOFError)):
        async with unix_connect(running.path, "ws://kaon.example/ui/injecting-talk", additional_headers=behind):
            pass
    assert running.serving.in_flight == 0


async def test_requests_to_mounted_apps_end_with_their_key(serve: Any, eventually: Any) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def lasting(request: Request) -> Response:
        begun.set()
        try:
            await forever()
        finally:
            cancelled.set()
        return PlainTextResponse("x")

    @kaon.service(mounts={"/ui": Starlette(routes=[Route("/lasting", lasting)])})
    class Lasting: ...

    running = await serve(Lasting)
    call = asyncio.create_task(running.client.get("/ui/lasting"))
    await begun.wait()
    running.serving.checks.access.put(Access())
    answer = await call
    assert (answer.status_code, answer.json()["code"], cancelled.is_set()) == (401, "unauthenticated", True)


async def test_websockets_of_mounted_apps_end_with_their_key(serve: Any, eventually: Any) -> None:
    async def lasting(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("first")
        await forever()

    @kaon.service(mounts={"/ui": Starlette(routes=[WebSocketRoute("/talk", lasting)])})
    class Lasting: ...

    running = await serve(Lasting)
    headers = {"authorization": "Bearer kaon_testing"}
    async with unix_connect(running.path, "ws://replica/ui/talk", additional_headers=headers) as socket:
        assert await socket.recv() == "first"
        running.serving.checks.access.put(Access())
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    await eventually(lambda: running.serving.in_flight == 0)


async def test_mounted_apps_have_a_bound_on_open_requests_and_websockets(
    serve: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lasting(request: Request) -> Response:
        await forever()
        return PlainTextResponse("x")

    async def lasting_talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive()

    routes = [Route("/lasting", lasting), Route("/short", lambda _: PlainTextResponse("x"))]

    @kaon.service(mounts={"/a": Starlette(routes=routes), "/b": Starlette(routes=[WebSocketRoute("/t", lasting_talk)])})
    class Lasting: ...

    monkeypatch.setattr("kaon.runtime.serving.MOST_OPEN", 2)
    running = await serve(Lasting)
    headers = {"authorization": "Bearer kaon_testing"}
    call = asyncio.create_task(running.client.get("/a/lasting"))
    async with unix_connect(running.path, "ws://replica/b/t", additional_headers=headers):
        await eventually(lambda: running.serving.in_mounts == 2)
        refused = await running.client.get("/a/short")
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
        assert "retry-after" in refused.headers
        with pytest.raises(InvalidStatus) as at_the_handshake:
            await unix_connect(running.path, "ws://replica/b/t", additional_headers=headers)
        assert at_the_handshake.value.response.status_code == 429
        call.cancel()
        await eventually(lambda: running.serving.in_mounts == 1)
        assert (await running.client.get("/a/short")).text == "x"
    await eventually(lambda: running.serving.in_mounts == 0)
