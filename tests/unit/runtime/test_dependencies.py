"""A call of another service that fails in a handler is answered with 502 and its name, not as wrong input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import kaon
from kaon.errors import (
    DeadlineExceeded,
    DependencyFailed,
    Interrupted,
    KaonError,
    NotBegun,
    Unauthenticated,
    calling,
    from_problem,
)


@kaon.service
class Stock:
    @kaon.endpoint
    def count(self, product: str) -> int:
        if product == "chair":
            raise kaon.NotFound("There is no chair.")
        return 3

    @kaon.endpoint
    async def each(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
        raise kaon.Unavailable("The stock is closed.", retry_after_s=7)

    @kaon.endpoint(batch=kaon.Batch())
    def rows(self, numbers: list[int]) -> list[int]:
        raise kaon.ItemError("Row 0 is bad.", index=0)


@kaon.service
class Shop:
    stock = kaon.use(Stock)
    named = kaon.use("stock")

    @kaon.endpoint
    def order(self, product: str) -> int:
        count: int = self.stock.count(product=product)
        return count

    @kaon.endpoint
    async def order_soon(self, product: str) -> int:
        count: int = await self.stock.aio.count(product=product)
        return count

    @kaon.endpoint
    def misspelt(self) -> int:
        return int(self.named.count(produkt="lamp"))

    @kaon.endpoint
    def catches(self, product: str) -> bool:
        try:
            return bool(self.stock.count(product=product))
        except kaon.NotFound:
            return False

    @kaon.endpoint
    def passes_on(self, product: str) -> int:
        try:
            return int(self.stock.count(product=product))
        except kaon.NotFound as error:
            raise kaon.NotFound(error.cause) from error

    @kaon.endpoint
    async def stream(self, to: int) -> AsyncIterator[int]:
        async for number in self.stock.aio.each(to=to):
            yield number

    @kaon.endpoint
    def stream_in_thread(self, to: int) -> Iterator[int]:
        yield from self.stock.each(to=to)

    @kaon.endpoint(batch=kaon.Batch())
    def batched(self, numbers: list[int]) -> list[int]:
        return list(self.stock.rows(numbers=numbers))

    @kaon.endpoint
    def wrong_input(self, product: str) -> int:
        raise kaon.InvalidInput("The product is unknown.")

    @kaon.endpoint
    def raises(self, number: int) -> int:
        with calling("payment"):
            raise ERRORS[number]


ERRORS: list[KaonError] = [
    kaon.InvalidInput("a"),
    Unauthenticated("a"),
    kaon.Forbidden("a"),
    kaon.TooManyRequests("a", retry_after_s=3),
    NotBegun("a"),
    Interrupted("a"),
    DeadlineExceeded("a"),
    KaonError("a"),
]


@pytest.fixture
def shop() -> Iterator[Any]:
    with kaon.local(stock=Stock(), shop=Shop()):
        yield kaon.use(Shop)


@pytest.mark.parametrize("endpoint", ["order", "order_soon"])
def test_a_failed_call_is_a_failure_of_the_service_in_tests_too(shop: Any, endpoint: str) -> None:
    assert getattr(shop, endpoint)(product="lamp") == 3
    with pytest.raises(DependencyFailed, match="`stock`, which this service uses, failed with not-found") as error:
        getattr(shop, endpoint)(product="chair")
    assert error.value.status == 502
    assert isinstance(error.value.__cause__, kaon.NotFound)


def test_wrong_arguments_of_the_call_are_no_wrong_input_of_the_caller(shop: Any) -> None:
    with pytest.raises(DependencyFailed, match="invalid-input"):
        shop.misspelt()


def test_a_handler_catches_the_error_or_makes_it_its_own(shop: Any) -> None:
    assert shop.catches(product="chair") is False
    with pytest.raises(kaon.NotFound, match="no chair"):
        shop.passes_on(product="chair")


@pytest.mark.parametrize("endpoint", ["stream", "stream_in_thread"])
def test_a_stream_that_fails_is_reported_after_its_items(shop: Any, endpoint: str) -> None:
    items = getattr(shop, endpoint)(to=2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(DependencyFailed, match="unavailable") as error:
        next(items)
    assert error.value.retry_after_s == 7


async def test_a_replica_answers_502_and_logs_the_cause(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with kaon.local(stock=Stock()):
        client = (await serve(Shop)).client
        answer = await client.post("/order", json={"product": "chair"}, headers={"x-request-id": "r-1"})
        assert (answer.status_code, answer.json()["code"], answer.json()["request_id"]) == (
            502,
            "dependency-failed",
            "r-1",
        )
        assert answer.json()["dependency"] == {"name": "stock", "code": "not-found", "request_id": ""}
        assert "no chair" not in answer.text
        assert "There is no chair." in caplog.text
        own = await client.post("/wrong-input", json={"product": "chair"})
        assert (own.status_code, own.json()["code"]) == (400, "invalid-input")


@pytest.mark.parametrize("number", range(len(ERRORS)))
async def test_no_error_of_a_call_passes_for_one_of_the_service(serve: Any, number: int) -> None:
    answer = await (await serve(Shop)).client.post("/raises", json={"number": number})
    error = ERRORS[number]
    assert answer.status_code == (504 if isinstance(error, DeadlineExceeded) else 502)
    assert answer.json()["dependency"]["name"] == "payment"
    assert answer.json()["dependency"]["code"] == error.code
    assert not {"www-authenticate", "x-kaon-not-begun"} & set(answer.headers)
    assert answer.headers.get("retry-after") == ("3" if error.retry_after_s else None)


async def test_a_bad_row_of_a_call_is_not_a_bad_row_of_the_batch(serve: Any) -> None:
    with kaon.local(stock=Stock()):
        answer = await (await serve(Shop)).client.post("/batched", json={"numbers": [1, 2]})
    assert (answer.status_code, answer.json()["dependency"]["code"]) == (502, "item-error")


def test_the_details_come_over_the_wire() -> None:
    error = kaon.NotFound("There is no chair.")
    error.dependency, error.request_id = "stock", "r-1"
    failed = DependencyFailed.of(error)
    received = from_problem(failed.status, failed.problem("r-2"))
    assert isinstance(received, DependencyFailed)
    assert received.details == {"name": "stock", "code": "not-found", "request_id": "r-1"}
