"""Plain fakes in place of services, and what a handle of a class shows of it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

import kaon
from kaon.errors import ConfigError, DependencyFailed


class Product(BaseModel):
    name: str
    price: float = 1.0


@kaon.service
class Stock:
    @kaon.endpoint
    def product(self, name: str) -> Product:
        """One product."""
        return Product(name=name)

    @kaon.endpoint
    async def add(self, product: Product) -> int:
        return 1

    @kaon.endpoint
    def names(self) -> Iterator[str]:
        yield "real"

    @kaon.endpoint
    async def picture(self, name: str) -> kaon.File:
        return kaon.File(b"real")


@kaon.service
class Shop:
    stock = kaon.use(Stock)

    @kaon.endpoint
    async def price(self, name: str) -> float:
        found: Product = await self.stock.aio.product(name=name)
        return found.price


@dataclass
class Dear:
    price: float = 9.0

    def product(self, name: str) -> dict[str, Any]:
        if name == "none":
            raise kaon.NotFound("No such product.")
        return {"name": name, "price": self.price}

    async def add(self, product: Product) -> int:
        return len(product["name"]) if isinstance(product, dict) else len(product.name)

    async def names(self) -> AsyncIterator[str]:
        for name in ("a", "b"):
            yield name

    def picture(self, name: str) -> kaon.File:
        return kaon.File(b"fake", media_type="image/png")


def test_a_plain_object_stands_in_for_a_service() -> None:
    stock, named = kaon.use(Stock), kaon.use("stock")
    with kaon.local(stock=Dear()):
        assert stock.product(name="lamp") == Product(name="lamp", price=9.0)
        assert named.product(name="lamp") == {"name": "lamp", "price": 9.0}
        assert stock.add(Product(name="lamp")) == 4
        assert list(stock.names()) == list(named.names()) == ["a", "b"]
        assert bytes(stock.picture(name="a").content) == bytes(named.picture(name="a").content) == b"fake"


async def test_a_fake_answers_coroutines_too() -> None:
    with kaon.local(stock=SimpleNamespace(product=lambda name: Product(name=name, price=3), names=lambda: iter("xy"))):
        assert (await kaon.use(Stock).aio.product(name="lamp")).price == 3
        assert [name async for name in kaon.use(Stock).aio.names()] == ["x", "y"]


def test_a_service_is_tested_with_a_fake_of_what_it_calls() -> None:
    with kaon.local(stock=Dear(price=5), shop=Shop()):
        assert kaon.use(Shop).price(name="lamp") == 5
        with pytest.raises(DependencyFailed, match="not-found"):
            kaon.use(Shop).price(name="none")


def test_an_answer_of_a_fake_that_does_not_fit_is_found() -> None:
    with kaon.local(stock=SimpleNamespace(product=lambda name: {"price": 1})), pytest.raises(kaon.KaonError) as error:
        kaon.use(Stock).product(name="lamp")
    assert error.value.code == "bad-answer"


def test_a_missing_method_and_a_class_are_refused() -> None:
    with kaon.local(stock=SimpleNamespace()), pytest.raises(kaon.NotFound, match="no method `product`"):
        kaon.use(Stock).product(name="a")
    with pytest.raises(ConfigError, match="is a class") as error, kaon.local(stock=Stock):
        pass
    assert "stock=Stock()" in error.value.hint


def test_a_handle_of_a_class_shows_its_endpoints() -> None:
    stock = kaon.use(Stock)
    assert dir(stock) == ["add", "aio", "names", "picture", "product"]
    assert dir(stock.aio) == ["add", "names", "picture", "product"]
    assert list(inspect.signature(stock.product).parameters) == ["name"]
    assert stock.product.__doc__ == stock.aio.product.__doc__ == "One product."


def test_an_unknown_endpoint_is_named_with_the_nearest() -> None:
    with pytest.raises(kaon.NotFound) as error:
        kaon.use(Stock).prodct(name="a")
    assert error.value.hint == "Did you mean `product`?"


def test_wrong_arguments_are_found_before_anything_is_sent() -> None:
    with kaon.local(stock=Dear()), pytest.raises(kaon.InvalidInput, match="cannot be called like this"):
        kaon.use(Stock).product(nome="a")
