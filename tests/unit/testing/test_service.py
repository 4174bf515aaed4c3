"""`kaon.testing.client`: a service over HTTP in a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import httpx2
import pytest

import kaon
import kaon.testing
from kaon.errors import ConfigError, Unauthenticated


@kaon.service
class Shop:
    stock = kaon.use("stock")

    def __init__(self, currency: str = "EUR") -> None:
        self.currency = currency
        self.events: list[str] = []

    @kaon.on_start
    async def begin(self) -> None:
        self.events.append("start")

    @kaon.on_stop
    def end(self) -> None:
        self.events.append("stop")

    @kaon.endpoint
    async def price(self, product: str) -> str:
        if product == "chair":
            raise kaon.NotFound("There is no chair.", hint="Take a lamp.")
        return f"3 {self.currency}"

    @kaon.endpoint(method="GET")
    def stream(self, to: int) -> Iterator[int]:
        yield from range(to)

    @kaon.endpoint
    def left(self, product: str) -> int:
        return int(self.stock.count(product=product))


@kaon.service
class Fails:
    def __init__(self, token: str) -> None: ...

    @kaon.on_start
    def begin(self) -> None:
        raise RuntimeError("no model")

    @kaon.endpoint
    def ping(self) -> None: ...


@pytest.fixture
def shop() -> Iterator[kaon.testing.ServiceClient]:
    with kaon.testing.client(Shop) as client:
        yield client


def test_endpoints_are_methods_and_errors_have_their_class(shop: kaon.testing.ServiceClient) -> None:
    assert shop.price(product="lamp") == "3 EUR"
    assert list(shop.stream(to=3)) == [0, 1, 2]
    with pytest.raises(kaon.NotFound, match="no chair") as error:
        shop.price(product="chair")
    assert error.value.hint == "Take a lamp."


def test_any_request_can_be_sent(shop: kaon.testing.ServiceClient) -> None:
    answer = shop.http.post("/price", json={"product": "chair"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert shop.http.post("/price", json={}).status_code == 400
    assert shop.http.get("/openapi.json").json()["info"]["title"] == "shop"


def test_a_key_is_needed(shop: kaon.testing.ServiceClient) -> None:
    assert httpx2.post(f"{shop.url}/price", json={"product": "lamp"}).status_code == 401
    with kaon.Client(shop.url, "kaon_wrong") as stranger, pytest.raises(Unauthenticated):
        stranger.price(product="lamp")


def test_a_public_service_needs_none() -> None:
    with kaon.testing.client(Shop, public=True) as shop:
        assert httpx2.post(f"{shop.url}/price", json={"product": "lamp"}).status_code == 200


def test_settings_are_given_and_missing_ones_are_refused() -> None:
    with kaon.testing.client(Shop, env={"CURRENCY": "USD"}) as shop:
        assert shop.price(product="lamp") == "3 USD"
    with pytest.raises(ConfigError, match="TOKEN"), kaon.testing.client(Fails, env={}):
        pass


def test_an_instance_is_served_with_its_hooks() -> None:
    instance = Shop(currency="CHF")
    with kaon.testing.client(instance) as shop:
        assert shop.price(product="lamp") == "3 CHF"
        assert instance.events == ["start"]
    assert instance.events == ["start", "stop"]


def test_what_a_start_hook_raises_is_raised_and_nothing_is_left() -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no model"), kaon.testing.client(Fails, env={"TOKEN": "x"}):
        pass
    assert threading.active_count() == before


def test_calls_of_other_services_go_to_fakes(shop: kaon.testing.ServiceClient) -> None:
    class Stock:
        def count(self, product: str) -> int:
            if product == "chair":
                raise kaon.NotFound("There is no chair.")
            return 4

    with kaon.local(stock=Stock()):
        assert shop.left(product="lamp") == 4
        answer = shop.http.post("/left", json={"product": "chair"})
    assert (answer.status_code, answer.json()["dependency"]["code"]) == (502, "not-found")


async def test_coroutines_call_it_too() -> None:
    with kaon.testing.client(Shop) as shop:
        async with kaon.AsyncClient(shop.url, shop.key) as client:
            assert await asyncio.gather(*(client.price(product="lamp") for _ in range(20))) == ["3 EUR"] * 20
