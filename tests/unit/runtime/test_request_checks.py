"""What is refused before a call begins: other sites' pages, many wrong keys, bodies that stop, other methods."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import kaon
from kaon.errors import Forbidden
from kaon.login_throttle import WINDOW_S
from kaon.runtime import bodies
from kaon.runtime.request_checks import WRONG_KEYS
from kaon.runtime.site import Site, site_of

ui = Starlette(routes=[Route("/page", lambda request: PlainTextResponse("x"), methods=["GET", "PUT"])])


@kaon.service(mounts={"/ui": ui})
class Doors:
    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint(path="/item", method="GET")
    async def read_item(self) -> str:
        return "read"

    @kaon.endpoint(path="/item", method="PUT")
    async def put_item(self) -> str:
        return "put"

    @kaon.endpoint(path="/item/{name}", method="DELETE")
    async def delete_item(self, name: str) -> str:
        return name

    @kaon.endpoint(path="/item/new")
    async def new_item(self) -> str:
        return "new"

    @kaon.endpoint
    async def talk(self, socket: kaon.WebSocket) -> None: ...

    @kaon.endpoint
    async def picture(self, picture: kaon.Image) -> int:
        return len(picture)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"host": "127.0.0.1:8000"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://localhost:3000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": "web.localhost:8000"},
        {"host": "192.168.1.7:8000", "origin": "http://192.168.1.7:8000"},
        {"host": "box.example:8000", "origin": "http://box.example:8000"},
    ],
)
def test_this_machine_is_reached_under_its_own_names(fields: dict[str, str]) -> None:
    Site("box.example").check({name.encode(): value.encode() for name, value in fields.items()})


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8000"},
        {"host": "localhost.evil.example"},
        {"host": "[::1]evil.example"},
        {"host": "evil.example@127.0.0.1x"},
        {"host": ""},
        {"host": "127.0.0.1:8000", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "127.0.0.1:8000", "origin": "http://localhost.evil.example"},
        {"host": "127.0.0.1:8000", "origin": "file://"},
        {"host": "127.0.0.1:8000", "origin": "http://192.168.1.7"},
        {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
    ],
)
def test_other_sites_may_not(fields: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        Site("127.0.0.1").check({name.encode(): value.encode() for name, value in fields.items()})


@given(st.binary(), st.binary())
def test_any_header_is_judged(host: bytes, origin: bytes) -> None:
    try:
        Site("127.0.0.1").check({b"host": host, b"origin": origin})
    except Forbidden as error:
        error.problem_json()


def test_only_replicas_on_tcp_check_browsers() -> None:
    assert site_of("unix:/run/s") is None
    assert site_of("127.0.0.1:8000") is not None


async def test_a_page_cannot_write_through_a_replica_on_tcp(serve: Any) -> None:
    running = await serve(Doors)
    running.serving.checks.site = Site("127.0.0.1")
    ours = {"host": "127.0.0.1:8000"}
    for path in ("/echo", "/item/new", "/ui/page"):
        foreign = {**ours, "origin": "https://evil.example"}
        assert (await running.client.post(path, json={"text": "x"}, headers=foreign)).status_code == 403
        assert (
            await running.client.post(path, json={"text": "x"}, headers={"host": "evil.example"})
        ).status_code == 403
    assert (await running.client.post("/echo", json={"text": "x"}, headers=ours)).text == '"x"'


FRONTEND = {"host": "127.0.0.1:8000", "origin": "http://localhost:5173"}
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


@pytest.mark.parametrize("path", ["/echo", "/item/new", "/ui/page", "/openapi.json", "/nothing"])
async def test_a_frontend_on_another_port_calls_a_replica_on_tcp_and_reads_every_answer(serve: Any, path: str) -> None:
    running = await serve(Doors)
    running.serving.checks.site = Site("127.0.0.1")
    for key, body in (("Bearer kaon_testing", {"text": "x"}), ("Bearer kaon_testing", {}), ("Bearer wrong", {})):
        answer = await running.client.post(path, json=body, headers={**FRONTEND, "authorization": key})
        assert answer.headers.get_list("access-control-allow-origin") == ["http://localhost:5173"]
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"]
    asked = await running.client.options(path, headers={**FRONTEND, **ASKS, "authorization": ""})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "http://localhost:5173")
    assert {"authorization", "content-type"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    assert "POST" in asked.headers["access-control-allow-methods"]
    foreign = await running.client.options(path, headers={**FRONTEND, **ASKS, "origin": "https://evil.example"})
    assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)


async def test_a_replica_behind_the_edge_leaves_other_origins_to_the_edge(serve: Any) -> None:
    running = await serve(Doors)
    answer = await running.client.post("/echo", json={"text": "x"}, headers=FRONTEND)
    assert (answer.text, "access-control-allow-origin" in answer.headers) == ('"x"', False)


@pytest.mark.parametrize("path", ["/echo", "/item/new", "/ui/page"])
async def test_right_keys_are_never_throttled(serve: Any, path: str) -> None:
    running = await serve(Doors)
    wrong = {"authorization": "Bearer wrong", "x-forwarded-for": "6.6.6.6"}
    right = {"x-forwarded-for": "6.6.6.6"}
    codes = [(await running.client.post(path, json={"text": "x"}, headers=wrong)).status_code for _ in range(40)]
    assert codes == [401] * WRONG_KEYS + [429] * (40 - WRONG_KEYS)
    answer = await running.client.post(path, json={"text": "x"}, headers=wrong)
    assert int(answer.headers["retry-after"]) <= WINDOW_S
    assert (await running.client.post(path, json={"text": "x"}, headers=right)).status_code not in (401, 429)
    elsewhere = {**wrong, "x-forwarded-for": "6.6.6.6, 10.1.2.3"}
    assert (await running.client.post(path, json={"text": "x"}, headers=elsewhere)).status_code == 401


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"POST /echo HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n", b""),
        (b"POST /echo HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n", b'{"te'),
        (b"POST /picture HTTP/1.1\r\ncontent-type: image/png\r\ncontent-length: 1000000\r\n", b"x" * 5000),
        (b"POST /picture HTTP/1.1\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n", b"1\r\nx\r\n"),
    ],
)
async def test_a_body_that_stops_is_refused(
    serve: Any, monkeypatch: pytest.MonkeyPatch, head: bytes, part: bytes
) -> None:
    monkeypatch.setattr(bodies, "PAUSE_S", 0.05)
    running = await serve(Doors)
    reader, writer = await running.raw()
    writer.write(head + b"host: replica\r\nauthorization: Bearer kaon_testing\r\n\r\n" + part)
    answer = await reader.read()  # to the end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert b"request-timeout" in answer
    writer.close()
    assert running.serving.in_flight == 0


async def test_a_slow_body_that_goes_on_is_taken(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_S", 30.0)
    running = await serve(Doors)
    reader, writer = await running.raw()
    writer.write(b"POST /echo HTTP/1.1\r\nhost: replica\r\nauthorization: Bearer kaon_testing\r\n")
    writer.write(b"content-type: application/json\r\ncontent-length: 12\r\n\r\n")
    for byte in b'{"text":"x"}':
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/echo", "OPTIONS, POST"),
        ("/item", "GET, HEAD, OPTIONS, PUT"),
        ("/item/new", "DELETE, OPTIONS, POST"),
        ("/item/a", "DELETE, OPTIONS"),
        ("/talk", "OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/ui/page", "GET, HEAD, PUT"),
    ],
)
async def test_405_names_all_methods_of_the_path(serve: Any, path: str, allow: str) -> None:
    running = await serve(Doors)
    for method in {"GET", "PATCH", "DELETE", "POST"} - set(allow.split(", ")):
        answer = await running.client.request(method, path)
        assert (answer.status_code, ", ".join(sorted(answer.headers["allow"].split(", ")))) == (405, allow), method


@kaon.service
class Injecting:
    """Files whose media types were changed after they had been checked, on the fast path and past it."""

    @kaon.endpoint
    async def fast(self, text: str) -> kaon.File:
        return self._changed(text)

    @kaon.endpoint(path="/slow/{text}")
    async def slow(self, text: str) -> kaon.File:
        return self._changed(text)

    @kaon.endpoint
    async def same(self, picture: kaon.Image) -> kaon.Image:
        return picture

    def _changed(self, text: str) -> kaon.File:
        file = kaon.File(b"x", media_type="image/png")
        file.media_type = text
        return file


@pytest.mark.parametrize("path", ["/fast", "/slow/a"])
async def test_an_invalid_media_type_is_a_bad_answer(serve: Any, path: str) -> None:
    running = await serve(Injecting)
    for text in ("image/png\r\nset-cookie: admin=1", "png", "ä/ö", ""):
        where = path if path == "/fast" else "/slow/" + quote(text or " ", safe="")
        answer = await running.client.post(where, json={"text": text} if path == "/fast" else {})
        assert (answer.status_code, answer.json()["code"], "set-cookie" in answer.headers) == (502, "bad-answer", False)
    assert running.serving.in_flight == 0


@pytest.mark.parametrize("media_type", ["image/png\r\nset-cookie: admin=1", "image/p\ng", "image/", "image/ä"])
async def test_a_callers_media_type_is_refused_where_it_enters(serve: Any, media_type: str) -> None:
    running = await serve(Injecting)
    picture = {"content": "aGk=", "media_type": media_type}
    answer = await running.client.post("/same", json={"picture": picture})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-input")
    named = {"content": "aGk=", "media_type": "image/png", "name": "a\r\nset-cookie: b"}
    assert (await running.client.post("/same", json={"picture": named})).status_code == 400


async def test_an_invalid_request_id_is_replaced(serve: Any) -> None:
    running = await serve(Doors)
    for sent in (b"\xff\xfe", b"a\tb", b"x" * 200):
        answer = await running.client.post("/echo", json={"text": "x"}, headers={b"x-request-id": sent})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].isalnum()
    answer = await running.client.post("/echo", json={"text": "x"}, headers={"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
