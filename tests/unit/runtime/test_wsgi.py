"""Mounted WSGI apps: Flask and Django as they are, in threads that are bounded and freed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import flask
import httpx2
import pytest
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

import kaon
from kaon.runtime import wsgi

site = flask.Flask(__name__)
BEHIND = {"x-forwarded-prefix": "/team/shop", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}


@site.get("/links")
def links() -> dict[str, Any]:
    request = flask.request
    return {
        "link": flask.url_for("links"),
        "path": request.path,
        "root": request.script_root,
        "client": request.remote_addr,
        "secure": request.is_secure,
        "query": request.args.to_dict(),
        "cookie": request.cookies.get("a"),
        "headers": [name for name, _ in request.headers],
    }


@site.post("/echo")
def echo() -> flask.Response:
    return flask.Response(flask.request.get_data(), 201, {"x-length": str(flask.request.content_length)})


@site.post("/file")
def file() -> str:
    sent = flask.request.files["file"]
    return f"{sent.filename} {len(sent.read())}"


@site.get("/breaks")
def breaks() -> str:
    raise RuntimeError("a bug")


@site.get("/é/<name>")
def decoded(name: str) -> str:
    return name


def ping(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"pong {request.path} {request.GET.get('a')}")


urlpatterns = [path("ping", ping)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", USE_TZ=True)


class Plain:
    """A WSGI app of one's own, to see its threads."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.running = self.most = 0
        self.closed = 0
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/silent":
                return []
            case "/wrong":
                start_response("200 OK", [("x-a", "b\r\nset-cookie: admin=1")])
                return [b"x"]
            case "/endless":
                start_response("200 OK", [("content-type", "text/plain")])
                return self.endless()
            case "/late":
                write = start_response("200 OK", [])
                write(b"one ")
                return [b"", b"two"]
            case _:
                with self.lock:
                    self.running += 1
                    self.most = max(self.most, self.running)
                self.release.wait(10)
                with self.lock:
                    self.running -= 1
                start_response("200 OK", [])
                return [b"done"]

    def endless(self) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            self.closed += 1


@kaon.service(mounts={"/flask": site, "/django": get_wsgi_application(), "/plain": lambda shop: shop.plain})
class Shop:
    def __init__(self) -> None:
        self.plain = Plain()


@pytest.fixture
async def running(serve: Any) -> Any:
    return await serve(Shop)


async def test_an_app_sees_the_address_that_its_callers_see(running: Any) -> None:
    found = (await running.client.get("/flask/links?a=1", headers=BEHIND | {"cookie": "a=b"})).json()
    assert (found["link"], found["root"], found["path"]) == ("/team/shop/flask/links", "/team/shop/flask", "/links")
    assert (found["client"], found["secure"], found["query"], found["cookie"]) == ("203.0.113.9", True, {"a": "1"}, "b")
    assert (await running.client.get("/django/ping?a=2")).text == "pong /django/ping 2"


async def test_bodies_forms_and_names_arrive_whole(running: Any) -> None:
    large = bytes(range(256)) * 10_000
    answer = await running.client.post("/flask/echo", content=large)
    assert (answer.status_code, answer.content, answer.headers["x-length"]) == (201, large, str(len(large)))
    sent = await running.client.post("/flask/file", files={"file": ("a.txt", b"12345")})
    assert sent.text == "a.txt 5"
    assert (await running.client.get("/flask/é/ü")).text == "ü"


async def test_a_chunked_body_has_its_length(running: Any) -> None:
    async def pieces() -> Any:
        yield b"one"
        yield b"two"

    answer = await running.client.post("/flask/echo", content=pieces())
    assert (answer.content, answer.headers["x-length"]) == (b"onetwo", "6")


async def test_head_and_options_work(running: Any) -> None:
    head = await running.client.head("/flask/links")
    assert (head.status_code, head.content) == (200, b"")
    assert "GET" in (await running.client.options("/flask/links")).headers["allow"]


async def test_headers_that_could_pass_for_others_are_dropped(running: Any) -> None:
    headers = {"x_forwarded_user": "admin", "proxy": "http://evil"}
    seen = (await running.client.get("/flask/links", headers=headers)).json()["headers"]
    assert not {"X-Forwarded-User", "Proxy"} & set(seen)


@pytest.mark.parametrize("at", ["/flask/breaks", "/plain/silent", "/plain/wrong"])
async def test_an_app_that_fails_is_an_error_of_the_service(running: Any, at: str) -> None:
    answer = await running.client.get(at)
    assert answer.status_code == 500
    assert "set-cookie" not in answer.headers
    assert "a bug" not in answer.text


async def test_an_app_may_write_before_it_returns(running: Any) -> None:
    assert (await running.client.get("/plain/late")).text == "one two"


async def test_a_key_is_needed(running: Any) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=running.path)
    async with httpx2.AsyncClient(transport=transport, base_url="http://replica") as stranger:
        assert (await stranger.get("/flask/links")).status_code == 401


async def test_requests_wait_for_one_of_a_bounded_number_of_threads(running: Any, eventually: Any) -> None:
    plain = running.instance.plain
    calls = [asyncio.create_task(running.client.get("/plain/block")) for _ in range(wsgi.THREADS + 5)]
    await eventually(lambda: plain.running == wsgi.THREADS)
    plain.release.set()
    assert {answer.text for answer in await asyncio.gather(*calls)} == {"done"}
    assert plain.most == wsgi.THREADS


async def test_more_than_may_wait_are_refused(running: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "WAITING", 1)
    plain = running.instance.plain
    calls = [asyncio.create_task(running.client.get("/plain/block")) for _ in range(wsgi.THREADS + 5)]
    await eventually(lambda: plain.running == wsgi.THREADS)
    await eventually(lambda: sum(call.done() for call in calls) == 4)
    plain.release.set()
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * (wsgi.THREADS + 1) + [429] * 4


async def test_the_thread_of_a_caller_who_disconnects_is_freed(running: Any, eventually: Any) -> None:
    for _ in range(3):
        reader, writer = await running.raw()
        writer.write(b"GET /plain/endless HTTP/1.1\r\nhost: x\r\nauthorization: Bearer kaon_testing\r\n\r\n")
        await reader.readexactly(1000)
        writer.close()
    await eventually(lambda: running.instance.plain.closed == 3)
    await eventually(lambda: running.serving.in_mounts == 0)


async def test_a_websocket_is_refused(running: Any) -> None:
    headers = {"authorization": "Bearer kaon_testing"}
    with pytest.raises(InvalidStatus):
        await unix_connect(running.path, "ws://replica/flask/links", additional_headers=headers)


async def test_mounted_apps_are_listed_in_the_document_with_their_own(serve: Any) -> None:
    import fastapi

    @kaon.service(mounts={"/api": fastapi.FastAPI(title="Stock"), "/old": site, "/made": lambda: site})
    class Mixed:
        pass

    document = (await (await serve(Mixed)).client.get("/openapi.json")).json()
    assert document["x-mounts"] == [
        {"path": "/api", "kind": "asgi", "title": "Stock", "openapi": "/api/openapi.json", "docs": "/api/docs"},
        {"path": "/old", "kind": "wsgi", "title": __name__},
        {"path": "/made", "kind": "wsgi", "title": __name__},
    ]
