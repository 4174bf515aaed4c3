"""A browser's websocket: its key among the subprotocols, and the origin of its page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

import kaon
from kaon.types.key import Access
from kaon.types.route import ORIGIN_ALLOWED

KEY = "kaon_testing"
OFFER = ["kaon", f"kaon.key.{KEY}"]


async def mounted(socket: WebSocket) -> None:
    await socket.accept()
    await show(socket)


async def show(socket: WebSocket) -> None:
    await socket.send_json(
        {"protocols": socket.scope["subprotocols"], "header": socket.headers.get("sec-websocket-protocol")}
    )


@kaon.service(mounts={"/ui": Starlette(routes=[WebSocketRoute("/show", mounted)])})
class Talks:
    @kaon.endpoint
    async def show(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        await show(socket)

    @kaon.endpoint
    async def chosen(self, socket: kaon.WebSocket) -> None:
        await socket.accept(subprotocol=socket.scope["subprotocols"][0])
        await show(socket)


def opened(running: Any, path: str, protocols: list[str], **headers: str) -> Any:
    named: Any = protocols or None
    return unix_connect(running.path, f"ws://replica{path}", subprotocols=named, additional_headers=headers)


@pytest.mark.parametrize("path", ["/show", "/ui/show"])
@pytest.mark.parametrize("order", [1, -1])
async def test_a_key_among_the_subprotocols_opens_and_the_service_never_sees_it(
    serve: Any, path: str, order: int
) -> None:
    running = await serve(Talks)
    async with opened(running, path, OFFER[::order]) as socket:
        assert socket.subprotocol == "kaon"
        assert json.loads(await socket.recv()) == {"protocols": [], "header": None}


async def test_a_subprotocol_that_the_service_chooses_is_answered(serve: Any) -> None:
    running = await serve(Talks)
    async with opened(running, "/chosen", ["kaon", "chat.v2", f"kaon.key.{KEY}", "chat.v1"]) as socket:
        assert socket.subprotocol == "chat.v2"
        assert '["chat.v2","chat.v1"]' in (await socket.recv())


@pytest.mark.parametrize("offer", [[], ["kaon"], ["kaon", "kaon.key.wrong"], ["kaon.key."], ["chat"]])
async def test_without_a_good_key_nobody_comes_in(serve: Any, offer: list[str]) -> None:
    running = await serve(Talks)
    with pytest.raises(InvalidStatus) as refused:
        await opened(running, "/show", offer).__aenter__()
    assert refused.value.response.status_code == 401
    assert "sec-websocket-protocol" not in refused.value.response.headers


async def test_a_key_in_the_header_goes_before_one_among_the_subprotocols(serve: Any) -> None:
    running = await serve(Talks)
    with pytest.raises(InvalidStatus) as refused:
        await opened(running, "/show", OFFER, authorization="Bearer wrong").__aenter__()
    assert refused.value.response.status_code == 401
    async with opened(running, "/show", ["kaon", "kaon.key.wrong"], authorization=f"Bearer {KEY}") as socket:
        assert socket.subprotocol == "kaon"


async def test_a_public_deployment_answers_the_same_offer(serve: Any) -> None:
    running = await serve(Talks, access=Access(public=True))
    async with opened(running, "/show", OFFER) as socket:
        assert socket.subprotocol == "kaon"


async def test_an_offer_without_kaon_is_not_answered_with_the_key(serve: Any) -> None:
    running = await serve(Talks)
    async with opened(running, "/show", OFFER[1:]) as socket:
        assert socket.subprotocol is None


OWN = [
    {},
    {"origin": "http://replica"},
    {"origin": "https://REPLICA"},
    {"origin": "https://app.example", "x-forwarded-host": "app.example"},
    {"origin": "https://app.example", "x-forwarded-host": "app.example:443"},
    {"origin": "https://app.example", ORIGIN_ALLOWED: "1"},
]
OTHER = [
    {"origin": "https://app.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://replica.example"},
    {"origin": "http://replica:8080"},
    {"origin": "https://app.example", "x-forwarded-host": "app.example:8443"},
]


@pytest.mark.parametrize("path", ["/show", "/ui/show"])
@pytest.mark.parametrize("headers", OWN, ids=str)
async def test_pages_of_its_own_host_and_of_allowed_origins_connect(
    serve: Any, path: str, headers: dict[str, str]
) -> None:
    running = await serve(Talks)
    async with opened(running, path, OFFER, **headers) as socket:
        assert socket.subprotocol == "kaon"


@pytest.mark.parametrize("access", [None, Access(public=True)], ids=["closed", "public"])
@pytest.mark.parametrize("headers", OTHER, ids=str)
async def test_pages_of_other_origins_do_not_even_with_a_key(
    serve: Any, headers: dict[str, str], access: Access | None
) -> None:
    running = await serve(Talks, access=access)
    for path in ("/show", "/ui/show", "/nothing"):
        with pytest.raises(InvalidStatus) as refused:
            await opened(running, path, OFFER, **headers).__aenter__()
        assert refused.value.response.status_code == 403
