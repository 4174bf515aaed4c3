"""What a browser meets at the edge: pages of other origins, a deployment's own hosts, what a page may do to others."""

from __future__ import annotations

from typing import Any

import pytest
import websockets
from pydantic import ValidationError
from websockets import Subprotocol

from kaon.edge.resources.routes import _OF_THE_ORIGIN
from kaon.sdk.docs_page import docs_page
from kaon.types.deployment import Cors
from kaon.types.route import ORIGIN_ALLOWED

from .world import World, broken, echo, raw, route

PAGE = "https://app.example"
KEY = {"authorization": "Bearer k"}
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "PATCH",
    "access-control-request-headers": "authorization,content-type,x-own",
}


def _answers(status: int, *headers: tuple[bytes, bytes]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"<html>"})

    return app


async def _shop(world: World, app: Any = echo, **fields: Any) -> Any:
    replica = await world.replica(app=app)
    await world.serve(replica, **fields)
    return replica


@pytest.mark.parametrize("origins", [(PAGE, "https://other.example"), ("*",)])
async def test_a_preflight_is_answered_at_the_edge_without_a_key(world: World, origins: tuple[str, ...]) -> None:
    replica = await _shop(world, closed=True, cors_origins=origins)
    answer = await world.client.options("/shop/x", headers=ASKED)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"]
    assert {"authorization", "content-type", "*"} <= set(allowed.split(", "))
    assert "access-control-allow-credentials" not in answer.headers
    assert not replica.calls


async def test_a_preflight_wakes_nothing(world: World) -> None:
    await world.edge.apply((route(hold_s=5.0, closed=True, cors_origins=(PAGE,)),), {("default", "shop"): ()})
    answer = await world.client.options("/shop", headers=ASKED)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)


async def test_a_page_reads_answers_and_errors_alike(world: World) -> None:
    """Of the service, of the replica, and those that the edge gives itself."""
    page = {"origin": PAGE}

    async def as_asked(scope: Any, receive: Any, send: Any) -> None:
        status = int(scope["query_string"])
        await (broken if status == 502 else _answers(status, (b"retry-after", b"3")))(scope, receive, send)

    replica = await _shop(world, as_asked, closed=True, cors_origins=(PAGE,))
    for status in (200, 401, 429, 500, 502):
        answer = await world.client.get(f"/shop?{status}", headers=page | KEY)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "retry-after" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"].lower()
    answer = await world.client.post("/shop", headers=page)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert (
        "access-control-allow-origin" not in (await world.client.post("/shop", headers={"origin": "https://x"})).headers
    )
    await replica.stop()
    answer = await world.client.get("/shop", headers=page | KEY)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (503, PAGE)


async def test_pages_may_send_cookies_where_the_deployment_says_so(world: World) -> None:
    await _shop(world, closed=True, cors_origins=(PAGE,), cors_credentials=True, cors_headers=("X-Own",))
    preflight = await world.client.options("/shop", headers=ASKED)
    assert "X-Own" in preflight.headers["access-control-allow-headers"].split(", ")
    called = await world.client.get("/shop", headers={"origin": PAGE} | KEY)
    keyless = await world.client.get("/shop", headers={"origin": PAGE})
    for answer in (preflight, called, keyless):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
    for answer in (called, keyless):
        assert "X-Own" in answer.headers["access-control-expose-headers"].split(", ")
    other = await world.client.get("/shop", headers={"origin": "https://x"} | KEY)
    assert "access-control-allow-credentials" not in other.headers


async def test_no_cookies_are_allowed_to_every_origin_at_once(world: World) -> None:
    await _shop(world, cors_origins=("*",), cors_credentials=True)
    assert "access-control-allow-credentials" not in (await world.client.get("/shop", headers={"origin": PAGE})).headers
    with pytest.raises(ValidationError, match="needs the origins by name"):
        Cors(origins=("*",), credentials=True)


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "http://app.example", "null"])
async def test_pages_of_other_origins_are_let_nothing(world: World, origin: str) -> None:
    await _shop(world, cors_origins=(PAGE,))
    for answer in (
        await world.client.options("/shop", headers=ASKED | {"origin": origin}),
        await world.client.get("/shop", headers={"origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_without_a_word_about_it_no_other_page_may_call(world: World) -> None:
    await _shop(world)
    answer = await world.client.get("/shop", headers={"origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


# Hosts


@pytest.mark.parametrize("host", ["shop.localhost", "SHOP.localhost", "shop.localhost:8080", "ai.example.com"])
async def test_a_host_of_its_own_has_the_deployments_paths_and_no_others(world: World, host: str) -> None:
    replica = await _shop(world, hosts=("ai.example.com",), retry_paths=("/similar",), stream_paths=("/", "/ticks"))
    for path in ("/", "/similar", "/ticks", "/api/v1/health", "/shop/x", "/other"):
        answer = await world.client.get(path, headers={"host": host})
        assert answer.text.splitlines()[0] == f"GET {path}"
        assert "x-forwarded-prefix" not in answer.text
    assert len(replica.calls) == 6
    assert (await world.client.get("/shop/x")).text.startswith("GET /x\n")


async def test_deployments_of_other_workspaces_have_local_hosts_too(world: World) -> None:
    replica = await world.replica()
    lab = route().model_copy(update={"workspace": "lab", "prefix": "/~lab/shop"})
    await world.edge.apply((lab,), {("lab", "shop"): (replica.endpoint,)})
    assert (await world.client.get("/x", headers={"host": "shop.lab.localhost"})).text.startswith("GET /x\n")
    assert (await world.client.get("/x", headers={"host": "shop.localhost"} | KEY)).status_code == 404


async def test_a_host_that_two_want_belongs_to_the_first_and_both_are_served(world: World) -> None:
    one, two = await world.replica("one"), await world.replica("two")
    routes = (route("shop", hosts=("ai.example.com",)), route("zoo", hosts=("ai.example.com", "zoo.example.com")))
    await world.edge.apply(routes, {("default", "shop"): (one.endpoint,), ("default", "zoo"): (two.endpoint,)})
    assert "ai.example.com" in str(await world.edge.status())
    for host, replica in (("ai.example.com", one), ("zoo.example.com", two), ("zoo.localhost", two)):
        before = len(replica.calls)
        assert (await world.client.get("/", headers={"host": host})).status_code == 200
        assert len(replica.calls) == before + 1


# Websockets


async def hearing(scope: Any, receive: Any, send: Any) -> None:
    """Accepts a websocket, and sends whether the edge allows its origin."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    allowed = dict(scope["headers"]).get(ORIGIN_ALLOWED.encode(), b"")
    await send({"type": "websocket.send", "text": allowed.decode()})
    await receive()


def _opened(world: World, path: str, *protocols: str, host: str = "x", **headers: str) -> Any:
    port, offered = world.settings.port, [Subprotocol(name) for name in protocols] or None
    uri, here = f"ws://{host}:{port}{path}", {"host": "127.0.0.1", "port": port}
    return websockets.connect(uri, subprotocols=offered, additional_headers=headers, **here)


async def test_a_key_among_the_subprotocols_opens_what_is_closed(world: World) -> None:
    await _shop(world, hearing, closed=True)
    async with _opened(world, "/shop/talk", "kaon", "kaon.key.k") as socket:
        assert socket.subprotocol == "kaon"
    for path, offer, status in (
        ("/shop/talk", [], 401),
        ("/shop/talk", ["kaon"], 401),
        ("/unknown/talk", ["kaon"], 401),
        ("/unknown/talk", ["kaon", "kaon.key.k"], 404),
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await _opened(world, path, *offer).__aenter__()
        assert refused.value.response.status_code == status, (path, offer)
    assert len(world.replicas[0].calls) == 1


@pytest.mark.parametrize("stream_paths", [(), ("/talk",), ("/",)])
async def test_the_edge_marks_handshakes_of_origins_that_are_allowed(world: World, stream_paths: Any) -> None:
    await _shop(world, hearing, cors_origins=(PAGE,), stream_paths=stream_paths)
    for path, host in (("/shop/talk", "x"), ("/talk", "shop.localhost")):
        for origin, mark in ((PAGE, "1"), ("https://evil.example", ""), (f"{PAGE}.evil", ""), ("null", "")):
            async with _opened(world, path, origin=origin, host=host) as socket:
                assert await socket.recv() == mark, (path, origin)
    await world.serve(world.replicas[0], cors_origins=("*",))
    async with _opened(world, "/shop/talk", origin="null") as socket:
        assert await socket.recv() == "1"


# What one page may do to others


async def test_no_answer_governs_the_shared_origin(world: World) -> None:
    received = [(name.encode(), b"x") for name in _OF_THE_ORIGIN]
    assert {"service-worker-allowed", "clear-site-data"} <= set(_OF_THE_ORIGIN)
    await _shop(world, _answers(200, *received))
    shared = await world.client.get("/shop")
    assert not set(_OF_THE_ORIGIN) & set(shared.headers)
    own = await world.client.get("/", headers={"host": "shop.localhost"})
    assert set(_OF_THE_ORIGIN) <= set(own.headers)


RUNS_SCRIPTS = [b"text/html", b"Text/HTML; charset=utf-8", b"application/xhtml+xml", b"image/svg+xml", b"text/xml", b""]
RUNS_NONE = [b"application/json", b"text/event-stream", b"image/png", b"text/plain; charset=utf-8"]


@pytest.mark.parametrize(
    ("received", "isolated"), [*((one, True) for one in RUNS_SCRIPTS), *((one, False) for one in RUNS_NONE)]
)
async def test_a_deployment_may_have_its_pages_shown_apart_and_nothing_else(
    world: World, received: bytes, isolated: bool
) -> None:
    headers = [(b"content-type", received)] if received else []
    replica = await _shop(world, _answers(200, *headers), sandbox=True)
    answer = await world.client.get("/shop")
    assert answer.headers.get("content-security-policy") == ("sandbox" if isolated else None)
    await world.serve(replica)
    assert "content-security-policy" not in (await world.client.get("/shop")).headers


async def test_a_page_that_has_a_policy_is_shown_by_both(world: World) -> None:
    policy = (b"content-security-policy", b"default-src 'self'")
    await _shop(world, _answers(200, (b"content-type", b"text/html"), policy), sandbox=True)
    answer = await world.client.get("/shop")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'", "sandbox"]


# Who has no key


_CLOSED = [f"/closed{path}" for path in ("", "/", "/x", "/x/y?z=1", "//x", "/docs", "/docs/", "/openapi.json")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"])
async def test_closed_and_unknown_deployments_answer_alike_without_a_key(world: World, method: str) -> None:
    replica = await world.replica()
    empty = route("empty0", closed=True, revisions=())
    await world.edge.apply((route("closed", closed=True), empty), {("default", "closed"): (replica.endpoint,)})
    more = (b"x-kaon-revision: 7", b"content-length: 100000001", b"upgrade: websocket\r\nconnection: upgrade", b"x: y")
    more += (b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-protocol: kaon, chat",)
    for line in more:
        for path in _CLOSED:
            request = f"{method} {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r\r\n".encode() + line + b"\r\n\r\n"
            names = (b"closed", b"empty0", b"unknown", b"~lab/unknown")
            answers = [await _said(world, request.replace(b"closed", name, 1), method) for name in names]
            assert answers[1:] == answers[:-1], request
            if "docs" not in path:
                assert answers[0].startswith(b"HTTP/1.1 401 ")
                assert b"www-authenticate: Bearer" in answers[0]
    assert not replica.calls


async def _said(world: World, request: bytes, method: str) -> bytes:
    """The answer, but for its date; of one to HEAD the head."""
    _, received = await raw(world, request, bodiless=method == "HEAD")
    return b"\r\n".join(line for line in received.split(b"\r\n") if not line.startswith(b"date:"))


async def test_local_hosts_of_closed_and_of_no_deployments_answer_alike_without_a_key(world: World) -> None:
    await _shop(world, closed=True)
    for path in (b"/", b"/docs", b"/x"):
        request = b"GET " + path + b" HTTP/1.1\r\nhost: %b.localhost\r\nx-request-id: r\r\n\r\n"
        answers = [await _said(world, request % name, "GET") for name in (b"shop", b"nobody")]
        assert answers[0].startswith(b"HTTP/1.1 200 " if path == b"/docs" else b"HTTP/1.1 401 ")
        assert answers[0] == answers[1]


async def test_a_key_opens_what_is_closed_and_public_deployments_need_none(world: World) -> None:
    await _shop(world, closed=True)
    assert (await world.client.get("/shop", headers=KEY)).status_code == 200
    assert (await world.client.get("/nothing", headers=KEY)).json()["code"] == "not-found"
    await world.serve(world.replicas[0])
    assert (await world.client.get("/shop")).status_code == 200


async def test_the_docs_page_is_the_same_everywhere_and_asks_no_replica(world: World) -> None:
    replica = await _shop(world, closed=True)
    expected = docs_page()
    for path, host in (
        ("/shop/docs", "x"),
        ("/none/docs", "x"),
        ("/docs", "shop.localhost"),
        ("/docs", "none.localhost"),
    ):
        page = await world.client.get(path, headers={"host": host})
        assert (page.status_code, page.content) == (200, expected.html)
        assert dict(expected.headers).items() <= dict(page.headers).items()
        head = await world.client.head(path, headers={"host": host})
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(expected.html)))
    assert (await world.client.post("/shop/docs", headers=KEY)).text.startswith("POST /docs\n")
    assert len(replica.calls) == 1
